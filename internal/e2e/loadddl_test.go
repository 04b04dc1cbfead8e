package e2e

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// movingRows is how many rows each table has that changes its shape or its name while it is loaded.
const movingRows = 2000

// movingTables are tables that writers and statements change while they are loaded. All have the columns id and n.
type movingTables struct {
	t   *testing.T
	src source
	p   *process
	mu  sync.RWMutex // held for reading by whoever writes a row, for writing while a table is copied and swapped
}

func (m *movingTables) exec(q string) {
	m.t.Helper()
	_, err := m.src.db.ExecContext(m.t.Context(), q)
	require.NoError(m.t, err, q)
}

// create makes a table with rows.
func (m *movingTables) create(name, more string, from, rows int) {
	m.t.Helper()
	m.exec("CREATE TABLE " + name + " (id INT NOT NULL PRIMARY KEY, n INT" + more + ")")
	if m.src.slot != "" {
		m.exec("ALTER TABLE " + name + " OWNER TO " + servers.User)
	}
	for at := 0; at < rows; at += 1000 {
		var values []string
		for id := at; id < min(at+1000, rows); id++ {
			values = append(values, fmt.Sprintf("(%d, 1)", from+id))
		}
		m.exec("INSERT INTO " + name + " (id, n) VALUES " + strings.Join(values, ","))
	}
}

// rename renames tables, all at once.
func (m *movingTables) rename(pairs ...string) {
	m.t.Helper()
	if m.src.slot == "" {
		var list []string
		for i := 0; i < len(pairs); i += 2 {
			list = append(list, pairs[i]+" TO "+pairs[i+1])
		}
		m.exec("RENAME TABLE " + strings.Join(list, ", "))
		return
	}
	statement := "BEGIN;"
	for i := 0; i < len(pairs); i += 2 {
		statement += " ALTER TABLE " + pairs[i] + " RENAME TO " + pairs[i+1] + ";"
	}
	m.exec(statement + " COMMIT")
}

// loading waits until rows of a table are read.
func (m *movingTables) loading(table string) {
	m.t.Helper()
	full := strings.TrimSuffix(m.src.full, "accounts") + table
	read := 0.0
	eventually(m.t, patience, "the load of "+full, func() bool {
		read, _ = m.p.metric("deltaforge_snapshot_rows_total", "table", full)
		return read > 0
	})
	m.t.Logf("%s has %.0f of about %d rows read", table, read, movingRows)
}

// write changes rows from some connections until ctx ends. A table may have another name, or not be there.
func (m *movingTables) write(ctx context.Context, names []string) (wait func() int) {
	var wg sync.WaitGroup
	written := make([]int, 4)
	for n := range written {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(n), 3))
			for v := 2; ctx.Err() == nil; v++ {
				table, id := names[r.IntN(len(names))], r.IntN(2*movingRows)/len(written)*len(written)+n
				q := fmt.Sprintf("UPDATE %s SET n = %d WHERE id = %d", table, v, id)
				switch r.IntN(6) {
				case 0:
					q = fmt.Sprintf("DELETE FROM %s WHERE id = %d", table, id)
				case 1:
					q = fmt.Sprintf("INSERT INTO %s (id, n) VALUES (%d, %d)", table, id, v)
				case 2:
					q = fmt.Sprintf("UPDATE %s SET id = %d, n = %d WHERE id = %d", table, id+4*movingRows, v, id)
				}
				m.mu.RLock()
				_, err := m.src.db.ExecContext(context.WithoutCancel(ctx), q)
				m.mu.RUnlock()
				if err == nil {
					written[n]++
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	return func() (sum int) {
		wg.Wait()
		for _, n := range written {
			sum += n
		}
		return sum
	}
}

// change makes the statements, each while its table is loaded.
func (m *movingTables) change() {
	m.loading("t0")
	m.exec("ALTER TABLE t0 ADD COLUMN late VARCHAR(20)")
	m.exec("UPDATE t0 SET late = 'so' WHERE id % 10 = 0")
	m.exec("ALTER TABLE t0 DROP COLUMN gone")
	m.loading("t1")
	m.exec("TRUNCATE TABLE t1")
	m.loading("t2")
	m.rename("t2", "t2_moved")
	m.loading("t3")
	m.exec("DROP TABLE t3")
	m.create("t3", ", another VARCHAR(20)", 1_000_000, 100)
	m.loading("t4")
	m.create("_t4_new", ", copied INT", 0, 0)
	m.mu.Lock()
	m.exec("INSERT INTO _t4_new (id, n, copied) SELECT id, n, 1 FROM t4")
	m.rename("t4", "_t4_old", "_t4_new", "t4")
	m.mu.Unlock()
	m.loading("t5")
	m.rename("t5", "hidden", "unseen", "t6")
	m.create("t7", "", 0, 500)
}

// contents are the rows of a table by id, each value by its column.
func (m *movingTables) contents(table string) map[string]map[string]string {
	m.t.Helper()
	rows, err := m.src.db.QueryContext(m.t.Context(), "SELECT * FROM "+table)
	require.NoError(m.t, err)
	defer func() { require.NoError(m.t, rows.Close()) }()
	columns, err := rows.Columns()
	require.NoError(m.t, err)
	out := map[string]map[string]string{}
	for rows.Next() {
		values, into := make([]sql.NullString, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		require.NoError(m.t, rows.Scan(into...))
		row := map[string]string{}
		for i, v := range values {
			row[columns[i]] = "null"
			if v.Valid {
				row[columns[i]] = v.String
			}
		}
		out[row["id"]] = row
	}
	require.NoError(m.t, rows.Err())
	return out
}

// replayTables replays what is delivered: for each table its rows by id, each value by its column.
func replayTables(t *testing.T, messages []delivered) map[string]map[string]map[string]string {
	t.Helper()
	state := map[string]map[string]map[string]string{}
	for _, d := range messages {
		var e struct {
			Before, After map[string]any
			Op            string
			Source        struct{ Table string }
		}
		require.NoError(t, json.Unmarshal(d.value, &e))
		if state[e.Source.Table] == nil || e.Op == "t" {
			state[e.Source.Table] = map[string]map[string]string{}
		}
		rows := state[e.Source.Table]
		if e.Before != nil {
			delete(rows, fmt.Sprint(e.Before["id"]))
		}
		if e.After != nil {
			row := map[string]string{}
			for name, v := range e.After {
				if row[name] = fmt.Sprint(v); v == nil {
					row[name] = "null"
				} else if f, ok := v.(float64); ok {
					row[name] = fmt.Sprintf("%.0f", f)
				}
			}
			rows[row["id"]] = row
		}
	}
	return state
}

// differs says how a replay differs from a table. What a row did not have when it was delivered is null.
func differs(want, got map[string]map[string]string) string {
	var list []string
	for id, row := range want {
		for name, v := range row {
			has, ok := got[id][name]
			if !ok {
				has = "null"
			}
			if got[id] == nil || has != v {
				list = append(list, fmt.Sprintf("row %s has %v, and the replay %v", id, row, got[id]))
				break
			}
		}
	}
	for id := range got {
		if want[id] == nil {
			list = append(list, fmt.Sprintf("row %s is not there, and the replay has %v", id, got[id]))
		}
	}
	if len(list) == 0 {
		return ""
	}
	slices.Sort(list)
	return strings.Join(list[:min(len(list), 5)], "\n") + fmt.Sprintf("\n%d rows", len(list))
}

// Tables are altered, emptied, renamed, dropped, made anew, and swapped while they are loaded and written to. In the end the replay of
// all events is what each of them holds.
func TestTablesThatChangeWhileTheyAreLoaded(t *testing.T) {
	longLoads(t)
	binary(t)
	for name, open := range sources(t) {
		t.Run(name, func(t *testing.T) {
			src := open(t)
			src.input = strings.Replace(src.input, `.*"]}`, `.t%"]}`, 1)
			src.input = strings.Replace(src.input, "snapshot: {mode: never}", "snapshot: {chunk_rows: 200, max_parallel_chunks: 3, max_rows_per_second: 4000}", 1)
			dst := kafkaSink(t, testenv.Kafka(t), 1) // one partition has the order of delivery
			m := &movingTables{t: t, src: src}
			for _, table := range []string{"t0", "t1", "t2", "t3", "t4", "t5", "unseen"} {
				m.create(table, ", gone INT", 0, movingRows)
			}
			m.p = newProcess(t, src.input+dst.output)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			m.p.start()
			awaitSaved(t, m.p)
			wait := m.write(ctx, []string{"t0", "t1", "t2", "t2_moved", "t3", "t4", "t5", "t6", "t7"})
			m.change()
			stop()
			assert.Greater(t, wait(), 100, "the writers did too little to prove anything")
			problem := ""
			defer func() {
				if t.Failed() {
					t.Log(problem)
				}
			}()
			tables := []string{"t0", "t1", "t2_moved", "t3", "t4", "t6", "t7"}
			eventually(t, patience, "the replay to be what the tables hold", func() bool {
				state := replayTables(t, dst.all(t))
				problem = ""
				for _, table := range tables {
					want, got := m.contents(table), state[table]
					if table == "t3" { // there is no event for the rows of the table that was dropped
						old := func(id string, _ map[string]string) bool { return len(id) < len("1000000") }
						maps.DeleteFunc(want, old)
						maps.DeleteFunc(got, old)
					}
					if d := differs(want, got); d != "" {
						problem += table + ": " + d + "\n"
					}
				}
				return problem == ""
			})
			m.p.stop()
		})
	}
}
