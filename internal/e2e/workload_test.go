package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/servers"
)

// step is one change of one row: the operation and the version that the row has after it (0 for a delete).
type step struct {
	op      string
	version int
}

// workload changes a table from several connections at once. Each transaction writes its changes to an audit table, too, to which rows are only added: what is there
// was committed, whatever the client was told. Each row belongs to one worker, so the order in the audit table is the order of the row's changes.
type workload struct {
	t       *testing.T
	db      *sql.DB
	table   string
	dollars bool     // PostgreSQL's placeholders
	begin   []string // what churn says in each transaction

	mu   sync.Mutex
	done int // changes that were committed; guarded by mu
	base int // the first row of the workers

	fragile bool // a worker that gets an error ends

	audit string         // the audit table
	known map[int][]step // changes that are not in the audit table

	stop context.CancelFunc
	wg   sync.WaitGroup
}

const createAccounts = `CREATE TABLE %s (
	id INT NOT NULL PRIMARY KEY, version INT NOT NULL, note VARCHAR(400), amount DECIMAL(12,2) NOT NULL)`

func newWorkload(t *testing.T, db *sql.DB, table string, dollars bool) *workload {
	t.Helper()
	_, err := db.ExecContext(t.Context(), fmt.Sprintf(createAccounts, table))
	require.NoError(t, err)
	if dollars { // only the owner of a table may publish it
		_, err = db.ExecContext(t.Context(), "ALTER TABLE "+table+" OWNER TO "+servers.User)
		require.NoError(t, err)
	}
	return &workload{t: t, db: db, table: table, dollars: dollars, audit: makeAudit(t, db, table, dollars)}
}

// run starts the workers. Between transactions each waits about pause.
func (w *workload) run(workers int, pause time.Duration) {
	ctx, cancel := context.WithCancel(w.t.Context())
	w.stop = cancel
	for n := range workers {
		w.wg.Go(func() {
			w.worker(ctx, n, pause)
		})
	}
}

// enough is how many changes a workload makes at least, however slow the machine is.
const enough = 2000

// end stops the workers after their current transaction, when they have done enough to prove something.
func (w *workload) end() {
	for deadline := time.Now().Add(patience); w.changes() < enough && time.Now().Before(deadline) && !w.t.Failed(); {
		time.Sleep(20 * time.Millisecond)
	}
	w.stop()
	w.wg.Wait()
}

type row struct {
	version int
	there   bool
}

func (w *workload) worker(ctx context.Context, n int, pause time.Duration) {
	r := rand.New(rand.NewPCG(uint64(n), 11))
	rows := map[int]row{}
	for ctx.Err() == nil {
		next, steps, err := w.transaction(r, n, rows)
		if err != nil && w.fragile {
			return
		}
		if err != nil {
			w.t.Errorf("workload: %v", err)
			return
		}
		if steps != nil { // committed
			rows = next
			w.count(len(steps))
		}
		time.Sleep(time.Duration(r.Int64N(int64(2*pause) + 1)))
	}
}

// transaction makes one to eight random changes; one in ten is rolled back (steps is nil then).
func (w *workload) transaction(r *rand.Rand, n int, rows map[int]row) (map[int]row, auditRows, error) {
	ctx := context.Background() // a transaction that has begun is finished
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = tx.Rollback() }()
	next := map[int]row{}
	maps.Copy(next, rows)
	var steps auditRows
	for range 1 + r.IntN(8) {
		id := w.base + n*1000 + r.IntN(40)
		cur := next[id]
		note := strings.Repeat("é\"n\\", r.IntN(60))
		switch {
		case !cur.there:
			cur = row{version: cur.version + 1, there: true}
			_, err = tx.ExecContext(ctx, w.sql("INSERT INTO "+w.table+" (id, version, note, amount) VALUES (?, ?, ?, ?)"),
				id, cur.version, note, amount(cur.version))
			steps.add(id, "c", cur.version)
		case r.IntN(5) == 0:
			cur = row{version: cur.version + 1}
			_, err = tx.ExecContext(ctx, w.sql("DELETE FROM "+w.table+" WHERE id = ?"), id)
			steps.add(id, "d", 0)
		default:
			cur.version++
			_, err = tx.ExecContext(ctx, w.sql("UPDATE "+w.table+" SET version = ?, note = ?, amount = ? WHERE id = ?"),
				cur.version, note, amount(cur.version), id)
			steps.add(id, "u", cur.version)
		}
		if err != nil {
			return nil, nil, err
		}
		next[id] = cur
	}
	if err := steps.write(ctx, tx, w.audit); err != nil {
		return nil, nil, err
	}
	if r.IntN(10) == 0 {
		return nil, nil, tx.Rollback()
	}
	return next, steps, tx.Commit()
}

func amount(version int) string { return fmt.Sprintf("%d.%02d", version*7, version%100) }

// sql turns ? into $1, $2, … where the database wants that.
func (w *workload) sql(q string) string {
	if !w.dollars {
		return q
	}
	var b strings.Builder
	n := 0
	for _, c := range q {
		if c == '?' {
			n++
			fmt.Fprintf(&b, "$%d", n)
			continue
		}
		b.WriteRune(c)
	}
	return b.String()
}

// count notes changes that were committed.
func (w *workload) count(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done += n
}

// changes counts what was committed.
func (w *workload) changes() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.done
}

// sentinel inserts one last row, whose arrival says that everything before it has arrived.
func (w *workload) sentinel() {
	w.t.Helper()
	tx, err := w.db.BeginTx(w.t.Context(), nil)
	require.NoError(w.t, err)
	defer func() { _ = tx.Rollback() }()
	_, err = tx.ExecContext(w.t.Context(),
		w.sql("INSERT INTO "+w.table+" (id, version, note, amount) VALUES (?, ?, ?, ?)"), sentinelID, 1, "the end", "1.00")
	require.NoError(w.t, err)
	var steps auditRows
	steps.add(sentinelID, "c", 1)
	require.NoError(w.t, steps.write(w.t.Context(), tx, w.audit))
	require.NoError(w.t, tx.Commit())
	w.count(1)
}

const sentinelID = -1

var sentinelKey = []byte(`{"id":-1}`) //nolint:gochecknoglobals // a constant

// contents returns the table as it is now: the JSON that an event would have, by id.
func (w *workload) contents() map[int]account {
	w.t.Helper()
	rows, err := w.db.QueryContext(w.t.Context(), "SELECT id, version, note, amount FROM "+w.table)
	require.NoError(w.t, err)
	defer func() { require.NoError(w.t, rows.Close()) }()
	out := map[int]account{}
	for rows.Next() {
		var a account
		require.NoError(w.t, rows.Scan(&a.ID, &a.Version, &a.Note, &a.Amount))
		out[a.ID] = a
	}
	require.NoError(w.t, rows.Err())
	return out
}
