package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/servers"
)

// ddlWalker changes tables of its own and the rows in them, one statement after the other, and notes each event that there has to be:
// with the columns and values that the server shows for the row just before and after the statement.
//
// Every table has the columns id, its key, and n, which is changed by every update; what else it has changes all the time.
type ddlWalker struct {
	t        *testing.T
	conn     *sql.Conn
	postgres bool
	r        *rand.Rand
	// owner begins the name of every table of the walker; table is the one that is walked, spare another one.
	owner, table, spare string
	names               int
	rows                int // ids given
	altered             int
	want, trail         []string
}

func newDDLWalker(t *testing.T, src source, n int, seed uint64) *ddlWalker {
	t.Helper()
	conn, err := src.db.Conn(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	owner := fmt.Sprintf("w%d", n)
	w := &ddlWalker{
		t: t, conn: conn, postgres: src.slot != "", r: rand.New(rand.NewPCG(seed, uint64(100+n))), owner: owner, table: owner + "_a",
		spare: owner + "_b",
	}
	require.NoError(t, w.create(w.table))
	require.NoError(t, w.create(w.spare))
	return w
}

// create makes a table; on PostgreSQL one that the account may publish, and whose old rows are in the log.
func (w *ddlWalker) create(name string) error {
	if err := w.exec(fmt.Sprintf("CREATE TABLE %s (id INT NOT NULL PRIMARY KEY, %s VARCHAR(20), n INT NOT NULL)", name, w.newName())); err != nil {
		return err
	}
	if w.postgres {
		return w.exec("ALTER TABLE " + name + " REPLICA IDENTITY FULL; ALTER TABLE " + name + " OWNER TO " + servers.User)
	}
	return nil
}

// runWalkers starts them and returns what ends them and waits. In the end the tables get names that none had before, and every row is
// changed once more, so that the events of these names are what the tables hold.
func runWalkers(t *testing.T, walkers []*ddlWalker) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, w := range walkers {
		wg.Go(func() {
			for ctx.Err() == nil || w.t.Context().Err() == nil && (len(w.want) < 50 || w.altered < 15) { // less proves too little
				if err := w.step(); err != nil {
					t.Errorf("%s: %v", w.owner, err)
					return
				}
				time.Sleep(time.Duration(w.r.IntN(15)) * time.Millisecond)
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
		for _, w := range walkers {
			for _, table := range []*string{&w.table, &w.spare} {
				last := w.owner + "_last_" + w.newName()
				require.NoError(t, w.exec("ALTER TABLE "+*table+" RENAME TO "+last))
				*table = last
				for _, id := range sortedKeys(w.contents(last)) {
					require.NoError(t, w.change(last, id, "UPDATE "+last+" SET n = n + 1"))
				}
			}
			for range 20 {
				require.NoError(t, w.row())
			}
		}
	}
}

func (w *ddlWalker) tables() []string { return []string{w.table, w.spare} }

func (w *ddlWalker) newName() string {
	w.names++
	return fmt.Sprintf("c%d", w.names)
}

func (w *ddlWalker) pick(from ...string) string { return from[w.r.IntN(len(from))] }

// exec runs a statement; one that has begun is not stopped.
func (w *ddlWalker) exec(statement string) error {
	w.trail = append(w.trail[max(0, len(w.trail)-80):], statement)
	if _, err := w.conn.ExecContext(context.Background(), statement); err != nil {
		w.trail[len(w.trail)-1] += "  -- refused"
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// columns returns the names of a table's columns.
func (w *ddlWalker) columns(table string) ([]string, error) {
	query := "SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = '" + table + "' ORDER BY ordinal_position"
	if w.postgres {
		query = "SELECT attname FROM pg_attribute WHERE attrelid = '" + table + "'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
	}
	rows, err := w.conn.QueryContext(context.Background(), query)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, rows.Err()
}

// read returns the rows of a table by their ids, as flatRow writes them, from the server's own text form.
func (w *ddlWalker) read(table, where string) (map[string]string, error) {
	names, err := w.columns(table)
	if err != nil {
		return nil, err
	}
	list := strings.Join(names, ", ")
	if w.postgres {
		list = strings.Join(names, "::text, ") + "::text"
	}
	rows, err := w.conn.QueryContext(context.Background(), "SELECT "+list+" FROM "+table+where)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	values := make([]sql.NullString, len(names))
	into := make([]any, len(names))
	for i := range values {
		into[i] = &values[i]
	}
	out := map[string]string{}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		var b strings.Builder
		for i, v := range values {
			if !v.Valid {
				v.String = "NULL"
			}
			fmt.Fprintf(&b, "%s=%s,", names[i], v.String)
		}
		out[idOf(b.String())] = b.String()
	}
	return out, rows.Err()
}

func (w *ddlWalker) contents(table string) map[string]string {
	w.t.Helper()
	rows, err := w.read(table, "")
	require.NoError(w.t, err)
	return rows
}

// change runs a statement on one row and notes its event. That the server refuses it is no error.
func (w *ddlWalker) change(table, id, statement string) error {
	where := " WHERE id = " + id
	before, err := w.read(table, where)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(statement, "INSERT") {
		statement += where
	}
	if w.exec(statement) != nil {
		return nil
	}
	after, err := w.read(table, where)
	if err != nil {
		return err
	}
	w.note(table, before[id], after[id])
	return nil
}

// note notes the event of a row.
func (w *ddlWalker) note(table, before, after string) {
	op := "u"
	switch {
	case before == "":
		op, before = "c", "-"
	case after == "":
		op, after = "d", "-"
	}
	w.want = append(w.want, fmt.Sprintf("%s %s %s %s", op, table, before, after))
}

// step does one thing: more often to a row than to a table.
func (w *ddlWalker) step() error {
	if w.r.IntN(3) == 0 {
		return w.ddl()
	}
	return w.row()
}

// row inserts, changes or deletes a row.
func (w *ddlWalker) row() error {
	table := w.pick(w.table, w.table, w.table, w.spare)
	names, err := w.columns(table)
	if err != nil {
		return err
	}
	fitting := []string{"'1'", "'7'", "7", "NULL", "'x'"} // the first three fit every type
	fitting = fitting[:3+w.r.IntN(3)]
	value := func() string { return w.pick(fitting...) }
	id := strconv.Itoa(1 + w.r.IntN(max(w.rows, 1)))
	rows, err := w.read(table, " WHERE id = "+id)
	if err != nil {
		return err
	}
	switch {
	case rows[id] == "":
		w.rows = min(w.rows+1, 12)
		values := make([]string, len(names))
		for i, name := range names {
			switch values[i] = value(); name {
			case "id":
				values[i] = id
			case "n":
				values[i] = "0"
			}
		}
		return w.change(table, id, fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s)", table, strings.Join(names, ", "), strings.Join(values, ", ")))
	case w.r.IntN(5) == 0:
		return w.change(table, id, "DELETE FROM "+table)
	default:
		set := "n = n + 1"
		if name := w.pick(names...); name != "id" && name != "n" {
			set += ", " + name + " = " + value()
		}
		return w.change(table, id, "UPDATE "+table+" SET "+set)
	}
}

func (w *ddlWalker) columnType() string {
	types := []string{"INT", "BIGINT", "SMALLINT DEFAULT 3", "DECIMAL(10,3)", "VARCHAR(20)", "VARCHAR(300)", "TEXT", "DECIMAL(6,0) DEFAULT 9"}
	if !w.postgres {
		types = append(types, "INT UNSIGNED NOT NULL DEFAULT 3", "ENUM('1','7','x')", "ENUM('x','7','1')", "MEDIUMTEXT", "CHAR(5)")
	}
	return w.pick(types...)
}

// place is where a new column goes, where the product can choose.
func (w *ddlWalker) place(names []string) string {
	if w.postgres {
		return ""
	}
	return w.pick("", " FIRST", " AFTER "+w.pick(names...))
}

// clause is one of ALTER TABLE.
func (w *ddlWalker) clause(names []string) string {
	c := w.pick(names...)
	for range 5 { // id and n stay
		if c == "id" || c == "n" {
			c = w.pick(names...)
		}
	}
	add := "ADD COLUMN " + w.newName() + " " + w.columnType() + w.place(names)
	if c == "id" || c == "n" || len(names) < 4 {
		return add
	}
	rename := "RENAME COLUMN " + c + " TO " + w.newName()
	if w.postgres {
		return w.pick(add, add, "DROP COLUMN "+c, rename, fmt.Sprintf("ALTER COLUMN %s DROP DEFAULT, ALTER COLUMN %s TYPE %s USING %s::text::%s", c, c,
			"VARCHAR(40)", c, "VARCHAR(40)"), fmt.Sprintf("ALTER COLUMN %s TYPE DECIMAL(12,2) USING length(%s::text)", c, c))
	}
	return w.pick(add, add, "DROP COLUMN "+c, rename, "MODIFY "+c+" "+w.columnType()+w.place(names),
		"CHANGE "+c+" "+w.newName()+" "+w.columnType()+w.place(names))
}

// ddl changes a table, or which table has the name. What the server refuses does not count.
func (w *ddlWalker) ddl() error {
	names, err := w.columns(w.table)
	if err != nil {
		return err
	}
	done := false
	switch w.r.IntN(8) {
	case 0:
		to := w.owner + "_" + w.newName()
		if err := w.exec("ALTER TABLE " + w.table + " RENAME TO " + to); err != nil {
			return err
		}
		w.table, done = to, true
	case 1:
		done, err = true, w.swap()
	case 2:
		if w.postgres {
			done = w.exec("ALTER TABLE "+w.table+" "+w.clause(names)+", "+"ADD COLUMN "+w.newName()+" INT DEFAULT 7") == nil
			break
		}
		done, err = true, w.ghost(names)
	case 3:
		if w.r.IntN(4) == 0 {
			if err := w.exec("TRUNCATE TABLE " + w.table); err != nil {
				return err
			}
			w.want = append(w.want, "t "+w.table+" - -")
			done = true
		}
	default:
		done = w.exec("ALTER TABLE "+w.table+" "+w.clause(names)) == nil
	}
	if done && err == nil {
		w.altered++
	}
	return err
}

// swap exchanges the two tables.
func (w *ddlWalker) swap() error {
	if w.postgres {
		return w.exec(fmt.Sprintf("BEGIN; ALTER TABLE %[1]s RENAME TO %[3]s_x; ALTER TABLE %[2]s RENAME TO %[1]s; ALTER TABLE %[3]s_x RENAME TO %[2]s; COMMIT",
			w.table, w.spare, w.owner))
	}
	return w.exec(fmt.Sprintf("RENAME TABLE %[1]s TO %[3]s_x, %[2]s TO %[1]s, %[3]s_x TO %[2]s", w.table, w.spare, w.owner))
}

// ghost is the way of gh-ost: a copy of the table is altered, the rows are copied, and a rename puts it into the place of the table.
func (w *ddlWalker) ghost(names []string) error {
	ghost, old := w.owner+"_"+w.newName()+"_gho", w.owner+"_"+w.newName()+"_del"
	if err := w.exec("CREATE TABLE " + ghost + " LIKE " + w.table); err != nil {
		return err
	}
	if err := w.exec(fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s INT DEFAULT 7%s", ghost, w.newName(), w.place(names))); err != nil {
		return err
	}
	list := strings.Join(names, ", ")
	rows, err := w.read(w.table, "")
	if err != nil {
		return err
	}
	for _, id := range sortedKeys(rows) {
		if err := w.change(ghost, id, fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM %s WHERE id = %s", ghost, list, list, w.table, id)); err != nil {
			return err
		}
	}
	if err := w.exec(fmt.Sprintf("RENAME TABLE %s TO %s, %s TO %s", w.table, old, ghost, w.table)); err != nil {
		return err
	}
	return w.exec("DROP TABLE " + old)
}
