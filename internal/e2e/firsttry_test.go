package e2e

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// firstTry is a schema that people try a tool like this with first, and its workload.
type firstTry struct {
	create  map[string]string // the columns of each table
	keyless string            // a table whose rows may come twice
	fill    func(insert func(table string, rows int, row func(i int) string))
	// transaction returns the statements of one transaction.
	transaction func(r *rand.Rand) []string
}

// bankTry is the schema of pgbench, and its transaction.
func bankTry() firstTry {
	return firstTry{
		create: map[string]string{
			"pgbench_branches": "bid INT NOT NULL PRIMARY KEY, bbalance INT, filler CHAR(88)",
			"pgbench_tellers":  "tid INT NOT NULL PRIMARY KEY, bid INT, tbalance INT, filler CHAR(84)",
			"pgbench_accounts": "aid INT NOT NULL PRIMARY KEY, bid INT, abalance INT, filler CHAR(84)",
			"pgbench_history":  "tid INT, bid INT, aid INT, delta INT, mtime TIMESTAMP NULL, filler CHAR(22)",
		},
		keyless: "pgbench_history",
		fill: func(insert func(string, int, func(int) string)) {
			insert("pgbench_branches", 2, func(i int) string { return fmt.Sprintf("%d, 0, NULL", i) })
			insert("pgbench_tellers", 20, func(i int) string { return fmt.Sprintf("%d, %d, 0, NULL", i, i/10) })
			insert("pgbench_accounts", 20_000, func(i int) string { return fmt.Sprintf("%d, %d, 0, ''", i, i/10_000) })
		},
		transaction: func(r *rand.Rand) []string {
			a, b, t, d := r.IntN(20_000), r.IntN(2), r.IntN(20), r.IntN(10_000)-5000
			return []string{
				fmt.Sprintf("UPDATE pgbench_accounts SET abalance = abalance + %d WHERE aid = %d", d, a),
				fmt.Sprintf("SELECT abalance FROM pgbench_accounts WHERE aid = %d", a),
				fmt.Sprintf("UPDATE pgbench_tellers SET tbalance = tbalance + %d WHERE tid = %d", d, t),
				fmt.Sprintf("UPDATE pgbench_branches SET bbalance = bbalance + %d WHERE bid = %d", d, b),
				fmt.Sprintf("INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (%d, %d, %d, %d, CURRENT_TIMESTAMP)", t, b, a, d),
			}
		},
	}
}

// sysTry is a table as sysbench has it, and what its transactions write.
func sysTry() firstTry {
	text := func(r *rand.Rand, groups int) string {
		parts := make([]string, groups)
		for i := range parts {
			parts[i] = fmt.Sprintf("%011d", r.Int64N(1e11))
		}
		return "'" + strings.Join(parts, "-") + "'"
	}
	row := func(r *rand.Rand, id int) string {
		return fmt.Sprintf("%d, %d, %s, %s", id, r.IntN(10_000), text(r, 10), text(r, 5))
	}
	return firstTry{
		create: map[string]string{"sbtest1": "id INT NOT NULL PRIMARY KEY, k INT DEFAULT 0 NOT NULL, c CHAR(120) DEFAULT '' NOT NULL, pad CHAR(60) DEFAULT '' NOT NULL"},
		fill: func(insert func(string, int, func(int) string)) {
			r := rand.New(rand.NewPCG(1, 1))
			insert("sbtest1", 20_000, func(i int) string { return row(r, i) })
		},
		transaction: func(r *rand.Rand) []string {
			id := r.IntN(20_000)
			return []string{
				fmt.Sprintf("SELECT SUM(k) FROM sbtest1 WHERE id BETWEEN %d AND %d", id, id+99),
				fmt.Sprintf("UPDATE sbtest1 SET k = k + 1 WHERE id = %d", r.IntN(20_000)),
				fmt.Sprintf("UPDATE sbtest1 SET c = %s WHERE id = %d", text(r, 10), r.IntN(20_000)),
				fmt.Sprintf("DELETE FROM sbtest1 WHERE id = %d", id),
				"INSERT INTO sbtest1 (id, k, c, pad) VALUES (" + row(r, id) + ")",
			}
		},
	}
}

// wholesaleTry is a wholesaler in the manner of TPC-C: keys of several columns, one table without a key; orders, payments and deliveries.
func wholesaleTry() firstTry {
	var next atomic.Int64
	next.Store(300)
	return firstTry{
		create: map[string]string{
			"warehouse":  "w_id INT NOT NULL PRIMARY KEY, w_name VARCHAR(10), w_tax DECIMAL(4,4), w_ytd DECIMAL(12,2)",
			"district":   "d_w_id INT NOT NULL, d_id INT NOT NULL, d_ytd DECIMAL(12,2), d_next_o_id INT, PRIMARY KEY (d_w_id, d_id)",
			"customer":   "c_w_id INT NOT NULL, c_d_id INT NOT NULL, c_id INT NOT NULL, c_last VARCHAR(16), c_balance DECIMAL(12,2), c_data VARCHAR(500), PRIMARY KEY (c_w_id, c_d_id, c_id)",
			"history":    "h_c_id INT, h_d_id INT, h_date TIMESTAMP NULL, h_amount DECIMAL(6,2), h_data VARCHAR(24)",
			"orders":     "o_w_id INT NOT NULL, o_d_id INT NOT NULL, o_id INT NOT NULL, o_c_id INT, o_entry_d TIMESTAMP NULL, o_carrier_id INT, PRIMARY KEY (o_w_id, o_d_id, o_id)",
			"new_order":  "no_w_id INT NOT NULL, no_d_id INT NOT NULL, no_o_id INT NOT NULL, PRIMARY KEY (no_w_id, no_d_id, no_o_id)",
			"order_line": "ol_w_id INT NOT NULL, ol_d_id INT NOT NULL, ol_o_id INT NOT NULL, ol_number INT NOT NULL, ol_i_id INT, ol_amount DECIMAL(6,2), ol_dist_info CHAR(24), PRIMARY KEY (ol_w_id, ol_d_id, ol_o_id, ol_number)",
			"item":       "i_id INT NOT NULL PRIMARY KEY, i_name VARCHAR(24), i_price DECIMAL(5,2)",
			"stock":      "s_w_id INT NOT NULL, s_i_id INT NOT NULL, s_quantity INT, s_ytd DECIMAL(8,0), PRIMARY KEY (s_w_id, s_i_id)",
		},
		keyless: "history",
		fill: func(insert func(string, int, func(int) string)) {
			insert("warehouse", 1, func(int) string { return "1, 'first', 0.0725, 300000.00" })
			insert("district", 10, func(i int) string { return fmt.Sprintf("1, %d, 30000.00, 301", i) })
			insert("customer", 3000, func(i int) string {
				return fmt.Sprintf("1, %d, %d, 'BAROUGHTABLE', -10.00, '%s'", i%10, i/10, strings.Repeat("c", 300))
			})
			insert("history", 3000, func(i int) string {
				return fmt.Sprintf("%d, %d, TIMESTAMP '2024-02-29 13:51:30', 10.00, 'first'", i/10, i%10)
			})
			insert("orders", 3000, func(i int) string {
				return fmt.Sprintf("1, %d, %d, %d, TIMESTAMP '2024-02-29 13:51:30', NULL", i%10, i/10, i/10)
			})
			insert("new_order", 3000, func(i int) string { return fmt.Sprintf("1, %d, %d", i%10, i/10) })
			insert("order_line", 15_000, func(i int) string {
				return fmt.Sprintf("1, %d, %d, %d, %d, 9.99, 'dist'", i%10, i/10%300, i/3000, i%1000)
			})
			insert("item", 1000, func(i int) string { return fmt.Sprintf("%d, 'item %d', 1.50", i, i) })
			insert("stock", 1000, func(i int) string { return fmt.Sprintf("1, %d, 50, 0", i) })
		},
		transaction: func(r *rand.Rand) (list []string) {
			add := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
			d, c := r.IntN(10), r.IntN(300)
			switch r.IntN(3) {
			case 0: // an order
				o := next.Add(1)
				add("UPDATE district SET d_next_o_id = d_next_o_id + 1 WHERE d_w_id = 1 AND d_id = %d", d)
				add("INSERT INTO orders VALUES (1, %d, %d, %d, CURRENT_TIMESTAMP, NULL)", d, o, c)
				add("INSERT INTO new_order VALUES (1, %d, %d)", d, o)
				for n := range 5 + r.IntN(6) {
					i := r.IntN(1000)
					add("UPDATE stock SET s_quantity = s_quantity - 1, s_ytd = s_ytd + 1 WHERE s_w_id = 1 AND s_i_id = %d", i)
					add("INSERT INTO order_line VALUES (1, %d, %d, %d, %d, 1.50, 'dist')", d, o, n, i)
				}
			case 1: // a payment
				add("UPDATE warehouse SET w_ytd = w_ytd + 5.25 WHERE w_id = 1")
				add("UPDATE district SET d_ytd = d_ytd + 5.25 WHERE d_w_id = 1 AND d_id = %d", d)
				add("UPDATE customer SET c_balance = c_balance - 5.25 WHERE c_w_id = 1 AND c_d_id = %d AND c_id = %d", d, c)
				add("INSERT INTO history VALUES (%d, %d, CURRENT_TIMESTAMP, 5.25, 'paid')", c, d)
			default: // a delivery
				o := r.IntN(300)
				add("DELETE FROM new_order WHERE no_w_id = 1 AND no_d_id = %d AND no_o_id = %d", d, o)
				add("UPDATE orders SET o_carrier_id = %d WHERE o_w_id = 1 AND o_d_id = %d AND o_id = %d", r.IntN(10), d, o)
				add("UPDATE customer SET c_balance = c_balance + 9.99 WHERE c_w_id = 1 AND c_d_id = %d AND c_id = %d", d, o)
			}
			return list
		},
	}
}

// prepare makes the tables and their rows.
func (f *firstTry) prepare(t *testing.T, src source) {
	t.Helper()
	exec := func(q string) {
		_, err := src.db.ExecContext(t.Context(), q)
		require.NoError(t, err)
	}
	for table, columns := range f.create {
		exec("CREATE TABLE " + table + " (" + columns + ")")
		if src.slot != "" {
			exec("ALTER TABLE " + table + " OWNER TO " + servers.User)
		}
		if src.slot != "" && table == f.keyless { // as the source asks for it
			exec("ALTER TABLE " + table + " REPLICA IDENTITY FULL")
		}
	}
	f.fill(func(table string, rows int, row func(int) string) {
		for at := 0; at < rows; at += 1000 {
			var list []string
			for i := at; i < min(at+1000, rows); i++ {
				list = append(list, "("+row(i)+")")
			}
			exec("INSERT INTO " + table + " VALUES " + strings.Join(list, ","))
		}
	})
}

// work makes transactions from four connections, and returns how many were committed.
func (f *firstTry) work(t *testing.T, db *sql.DB, each int) (committed int) {
	var wg sync.WaitGroup
	var done atomic.Int64
	for n := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(n), 17))
			for range each {
				tx, err := db.BeginTx(t.Context(), nil)
				if err != nil {
					t.Errorf("beginning a transaction: %v", err)
					return
				}
				for _, q := range f.transaction(r) {
					if _, err = tx.ExecContext(t.Context(), q); err != nil {
						break // such as a deadlock
					}
				}
				if err != nil {
					_ = tx.Rollback()
				} else if tx.Commit() == nil {
					done.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return int(done.Load())
}

// atSecond cuts a time down to what all texts of it have in common.
func atSecond(v string) string {
	if regexp.MustCompile(`^\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d`).MatchString(v) {
		return v[:10] + "T" + v[11:19]
	}
	return v
}

// tableRows are the rows of a table, sorted.
func tableRows(t *testing.T, db *sql.DB, table string) (list []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "SELECT * FROM "+table)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	columns, err := rows.Columns()
	require.NoError(t, err)
	for rows.Next() {
		values, into := make([]sql.NullString, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		require.NoError(t, rows.Scan(into...))
		text := ""
		for i, v := range values {
			if !v.Valid {
				v.String = "NULL"
			}
			text += columns[i] + "=" + atSecond(v.String) + ","
		}
		list = append(list, text)
	}
	require.NoError(t, rows.Err())
	slices.Sort(list)
	return list
}

// replayRows are the rows that a replay of all events leaves of each table, sorted; those of tables without a key once each.
func replayRows(t *testing.T, messages []delivered) map[string][]string {
	t.Helper()
	state := map[string]map[string]string{}
	for _, m := range messages {
		var e struct {
			After  *json.RawMessage
			Op     string
			Source struct{ Table string }
		}
		require.NoError(t, json.Unmarshal(m.value, &e))
		rows := state[e.Source.Table]
		if rows == nil {
			rows = map[string]string{}
			state[e.Source.Table] = rows
		}
		if e.Op == "d" {
			delete(rows, string(m.key))
			continue
		}
		text := ""
		dec := json.NewDecoder(bytes.NewReader(*e.After))
		dec.UseNumber()
		_, err := dec.Token()
		for require.NoError(t, err); dec.More(); {
			name, err := dec.Token()
			require.NoError(t, err)
			v, err := dec.Token()
			require.NoError(t, err)
			if v == nil {
				v = "NULL"
			}
			text += fmt.Sprint(name) + "=" + atSecond(fmt.Sprint(v)) + ","
		}
		key := string(m.key)
		if key == "" {
			key = text
		}
		rows[key] = text
	}
	all := map[string][]string{}
	for table, rows := range state {
		for _, row := range rows {
			all[table] = append(all[table], row)
		}
		slices.Sort(all[table])
	}
	return all
}

// The schemas of people's first try are loaded while their workload runs, and followed. The replay of all events is what the tables hold.
func TestFirstTry(t *testing.T) {
	longLoads(t)
	binary(t)
	for name, open := range sources(t) {
		for schema, f := range map[string]firstTry{"pgbench": bankTry(), "sysbench": sysTry(), "wholesale": wholesaleTry()} {
			t.Run(name+"/"+schema, func(t *testing.T) {
				src := open(t)
				src.input = strings.Replace(src.input, "snapshot: {mode: never}", "snapshot: {chunk_rows: 1000}", 1)
				f.prepare(t, src)
				dst := kafkaSink(t, testenv.Kafka(t), 1)
				p := newProcess(t, src.input+dst.output)
				p.start()
				committed := f.work(t, src.db, 150)
				assert.Greater(t, committed, 100)
				problem := ""
				defer func() {
					if t.Failed() {
						t.Log(problem)
					}
				}()
				eventually(t, patience, "the replay to be what the tables hold", func() bool {
					got := replayRows(t, dst.all(t))
					problem = ""
					for table := range f.create {
						want := tableRows(t, src.db, table)
						if table == f.keyless {
							want = slices.Compact(want)
						}
						if !slices.Equal(want, got[table]) {
							problem += fmt.Sprintf("%s: %d rows, and the replay has %d; such as %.300v and %.300v\n", table, len(want), len(got[table]), want[:min(1, len(want))], got[table][:min(1, len(got[table]))])
						}
					}
					return problem == ""
				})
				p.stop()
				t.Logf("%d transactions", committed)
			})
		}
	}
}
