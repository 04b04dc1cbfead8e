package demo

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// A full shop closes an account for each that is opened, and archives an order for each that is placed.
const (
	maxCustomers = 1000
	maxOrders    = 3000
)

// shop writes to the database as the customers of a small shop would: registrations, orders, payments, deliveries, in
// transactions of one to a few dozen rows, some of which are rolled back.
type shop struct {
	conn *sql.Conn
	bind func(n int) string
	rng  *rand.Rand
	rate int // rows a second
	// closed is closed when run has returned.
	closed chan struct{}

	// What is committed. Used by run only.
	customers []int64
	orders    []order
	lastID    int64

	mu         sync.Mutex
	committed  tally // guarded by mu
	rolledBack int   // transactions; guarded by mu
}

type order struct {
	id, customer int64
	status       int // index in statuses
}

func statuses() []string { return []string{"new", "paid", "shipped", "delivered"} }

func openShop(ctx context.Context, d *database, rate int) (*shop, error) {
	conn, err := d.db.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("connecting the shop to %s: %w", d.product, err)
	}
	return &shop{
		conn: conn, bind: d.dialect.bind, rate: rate, committed: tally{}, closed: make(chan struct{}),
		rng: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())), //nolint:gosec // a shop is no secret
	}, nil
}

func (s *shop) close() error { return s.conn.Close() }

// written returns the rows of all committed transactions and the number of those that were rolled back.
func (s *shop) written() (rows tally, rolledBack int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows = tally{}
	rows.add(s.committed)
	return rows, s.rolledBack
}

// run writes until stop is closed, ends the transaction it is in, and returns. ctx aborts it.
func (s *shop) run(ctx context.Context, stop <-chan struct{}) error {
	defer close(s.closed)
	begin, rows := time.Now(), 0
	for {
		// What the machine could not keep up with is not made up for in a burst.
		due := begin.Add(time.Duration(float64(rows) / float64(s.rate) * float64(time.Second)))
		if late := time.Since(due); late > time.Second {
			begin = begin.Add(late)
		}
		timer := time.NewTimer(time.Until(due))
		select {
		case <-stop:
			timer.Stop()
			return nil
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		n, err := s.transact(ctx, s.next())
		if err != nil {
			return fmt.Errorf("writing to the shop: %w", err)
		}
		rows += n
	}
}

// deed is one transaction. It returns what to remember once it is committed.
type deed func(tx *transaction) (remember func())

// errChangedMind rolls a transaction back.
var errChangedMind = errors.New("the customer has changed their mind")

// next picks what happens next.
func (s *shop) next() deed {
	dice := s.rng.IntN(100)
	switch {
	case len(s.customers) < 5:
		return s.register
	case dice < 10 && len(s.customers) < maxCustomers:
		return s.register
	case dice < 15:
		return s.closeAccount
	case dice < 45 && len(s.orders) < maxOrders:
		return s.place
	case dice < 55:
		return s.archive
	case dice < 60:
		return s.discount
	case dice < 64:
		return s.abandon
	default:
		return s.advance
	}
}

// transaction is an open transaction that remembers its first error and counts its rows.
type transaction struct {
	ctx  context.Context //nolint:containedctx // lives for one call of transact
	tx   *sql.Tx
	bind func(n int) string
	rows tally
	err  error
}

// exec runs a statement with ? for its arguments, which changes rows of one table in one way.
func (t *transaction) exec(table string, op op, statement string, args ...any) {
	if t.err != nil {
		return
	}
	parts := strings.Split(statement, "?")
	var text strings.Builder
	for i, part := range parts {
		if i > 0 {
			text.WriteString(t.bind(i))
		}
		text.WriteString(part)
	}
	result, err := t.tx.ExecContext(t.ctx, text.String(), args...)
	if err != nil {
		t.err = fmt.Errorf("%s of %s: %w", op, table, err)
		return
	}
	n, err := result.RowsAffected()
	t.err = err
	t.rows[tallyKey{table, op}] += int(n)
}

// transact does a deed and returns the number of rows committed.
func (s *shop) transact(ctx context.Context, do deed) (int, error) {
	tx, err := s.conn.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	t := &transaction{ctx: ctx, tx: tx, bind: s.bind, rows: tally{}}
	remember := do(t)
	if t.err != nil {
		err := errors.Join(t.err, tx.Rollback())
		if !errors.Is(t.err, errChangedMind) {
			return 0, err
		}
		s.mu.Lock()
		s.rolledBack++
		s.mu.Unlock()
		return 0, nil
	}
	if err := tx.Commit(); err != nil {
		return 0, fmt.Errorf("committing: %w", err)
	}
	remember()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.committed.add(t.rows)
	return t.rows.total(), nil
}

// What the shop has before it opens.
const (
	stockCustomers = 100
	stockOrders    = 4 // of each customer
)

// stock is what was written before anybody streamed it.
func (s *shop) stock(ctx context.Context) error {
	_, err := s.transact(ctx, func(t *transaction) func() {
		var customers []int64
		var orders []order
		for range stockCustomers {
			id := s.newID()
			customers = append(customers, id)
			t.exec(tableCustomers, opLoad, "INSERT INTO customers (id, name, email, city, orders, version) VALUES (?, ?, ?, NULL, ?, 1)",
				id, "An old customer", fmt.Sprintf("customer%d@example.com", id), stockOrders)
			for range stockOrders {
				o := order{id: s.newID(), customer: id}
				orders = append(orders, o)
				t.exec(tableOrders, opLoad, "INSERT INTO orders (id, customer_id, status, total, version) VALUES (?, ?, 'new', ?, 1)",
					o.id, id, fmt.Sprintf("%d.%02d", 1+s.rng.IntN(500), s.rng.IntN(100)))
			}
		}
		return func() { s.customers, s.orders = customers, orders }
	})
	if err != nil {
		return fmt.Errorf("stocking the shop: %w", err)
	}
	return nil
}

// stocked returns the rows of stock.
func (s *shop) stocked() tally {
	return tally{{tableCustomers, opLoad}: stockCustomers, {tableOrders, opLoad}: stockCustomers * stockOrders}
}

func pick[T any](s *shop, list []T) *T { return &list[s.rng.IntN(len(list))] }

func (s *shop) newID() int64 {
	s.lastID++
	return s.lastID
}

func (s *shop) register(t *transaction) func() {
	first := *pick(s, []string{"Ada", "Zoë", "Łukasz", "María", "Jürgen", "Chiara", "Håkon", "美咲", "Noor", "O'Brien"})
	last := *pick(s, []string{"Nowak", "García", "Müller", "Rossi", "Øverland", "Tanaka", "Haddad", "Smith", "Dvořák"})
	id := s.newID()
	var city any // some do not say
	if s.rng.IntN(4) > 0 {
		city = *pick(s, []string{"Gdańsk", "Sevilla", "Köln", "Torino", "Tromsø", "京都", "Beirut", "Leeds"})
	}
	t.exec(tableCustomers, opInsert, "INSERT INTO customers (id, name, email, city, orders, version) VALUES (?, ?, ?, ?, 0, 1)",
		id, first+" "+last, fmt.Sprintf("customer%d@example.com", id), city)
	return func() { s.customers = append(s.customers, id) }
}

// addOrders changes the number of orders of a customer.
func addOrders(t *transaction, id int64, n int) {
	t.exec(tableCustomers, opUpdate, "UPDATE customers SET orders = orders + ?, version = version + 1 WHERE id = ?", n, id)
}

func (s *shop) place(t *transaction) func() {
	customer := *pick(s, s.customers)
	placed := make([]order, 1+s.rng.IntN(3))
	for i := range placed {
		placed[i] = order{id: s.newID(), customer: customer}
		cents := 100 + s.rng.IntN(50_000)
		t.exec(tableOrders, opInsert, "INSERT INTO orders (id, customer_id, status, total, version) VALUES (?, ?, 'new', ?, 1)",
			placed[i].id, customer, fmt.Sprintf("%d.%02d", cents/100, cents%100))
	}
	addOrders(t, customer, len(placed))
	return func() { s.orders = append(s.orders, placed...) }
}

// abandon places an order and takes it back before it is committed: nobody must ever see it.
func (s *shop) abandon(t *transaction) func() {
	s.place(t)
	if t.err == nil {
		t.err = errChangedMind
	}
	return nil
}

func (s *shop) advance(t *transaction) func() {
	if len(s.orders) == 0 {
		return s.place(t)
	}
	o := pick(s, s.orders)
	status := min(o.status+1, len(statuses())-1)
	t.exec(tableOrders, opUpdate, "UPDATE orders SET status = ?, version = version + 1 WHERE id = ?", statuses()[status], o.id)
	return func() { o.status = status }
}

// discount changes several rows by one statement.
func (s *shop) discount(t *transaction) func() {
	customer := *pick(s, s.customers)
	t.exec(tableOrders, opUpdate, "UPDATE orders SET total = ROUND(total * 0.95, 2), version = version + 1 WHERE customer_id = ?", customer)
	return func() {}
}

func (s *shop) archive(t *transaction) func() {
	if len(s.orders) == 0 {
		return s.place(t)
	}
	at := s.rng.IntN(len(s.orders))
	gone := s.orders[at]
	t.exec(tableOrders, opDelete, "DELETE FROM orders WHERE id = ?", gone.id)
	addOrders(t, gone.customer, -1)
	return func() {
		s.orders[at] = s.orders[len(s.orders)-1]
		s.orders = s.orders[:len(s.orders)-1]
	}
}

// closeAccount deletes a customer and the orders they have.
func (s *shop) closeAccount(t *transaction) func() {
	at := s.rng.IntN(len(s.customers))
	gone := s.customers[at]
	t.exec(tableOrders, opDelete, "DELETE FROM orders WHERE customer_id = ?", gone)
	t.exec(tableCustomers, opDelete, "DELETE FROM customers WHERE id = ?", gone)
	return func() {
		s.customers[at] = s.customers[len(s.customers)-1]
		s.customers = s.customers[:len(s.customers)-1]
		kept := s.orders[:0]
		for _, o := range s.orders {
			if o.customer != gone {
				kept = append(kept, o)
			}
		}
		s.orders = kept
	}
}
