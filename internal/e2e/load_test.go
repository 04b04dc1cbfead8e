package e2e

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// loadedRows are there before the source starts.
const loadedRows = 30_000

// fill puts rows into the workload's table that no worker touches, and the first ones of each worker.
func (w *workload) fill(note string) {
	w.t.Helper()
	if note == "" {
		note = strings.Repeat("x", 100)
	}
	var rows []string
	flush := func() {
		_, err := w.db.ExecContext(w.t.Context(), "INSERT INTO "+w.table+" (id, version, note, amount) VALUES "+strings.Join(rows, ","))
		require.NoError(w.t, err)
		rows = rows[:0]
	}
	for id := range loadedRows {
		rows = append(rows, fmt.Sprintf("(%d, 1, '%s', 7.01)", id, note))
		if len(rows) == 1000 {
			flush()
		}
	}
}

// churn changes the rows that are there from a number of connections: updates, deletes, inserts, changes of keys, transactions that are rolled back. Versions only grow.
func (w *workload) churn(workers int) {
	ctx, cancel := context.WithCancel(w.t.Context())
	w.stop = cancel
	for n := range workers {
		w.wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(n), 5))
			for version := 2; ctx.Err() == nil; version++ {
				if err := w.churned(r, n, workers, version*10+n); err != nil {
					if strings.Contains(err.Error(), "eadlock") {
						continue
					}
					w.t.Errorf("workload: %v", err)
					return
				}
				w.count(1)
				time.Sleep(time.Duration(r.IntN(4)) * time.Millisecond)
			}
		})
	}
}

// churned makes one transaction.
func (w *workload) churned(r *rand.Rand, n, workers, version int) error {
	ctx := context.Background() // a transaction that has begun is finished
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for _, q := range w.begin {
		if _, err := tx.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	var steps auditRows
	for range 1 + r.IntN(5) {
		id := r.IntN(loadedRows/workers)*workers + n // nobody else's
		if err := w.churnRow(ctx, tx, r, id, version, &steps); err != nil {
			return err
		}
	}
	if err := steps.write(ctx, tx, w.audit); err != nil {
		return err
	}
	if r.IntN(8) == 0 {
		return tx.Rollback()
	}
	return tx.Commit()
}

// churnRow changes one row, if it is there.
func (w *workload) churnRow(ctx context.Context, tx *sql.Tx, r *rand.Rand, id, version int, steps *auditRows) error {
	run := func(q string, args ...any) (rows int64, err error) {
		res, err := tx.ExecContext(ctx, w.sql(q), args...)
		if err != nil {
			return 0, err
		}
		return res.RowsAffected()
	}
	remove := func(id int) error {
		n, err := run("DELETE FROM "+w.table+" WHERE id = ?", id)
		if n > 0 {
			steps.add(id, "d", 0)
		}
		return err
	}
	switch r.IntN(6) {
	case 0:
		return remove(id)
	case 1:
		if err := remove(id); err != nil {
			return err
		}
		steps.add(id, "c", version)
		_, err := run("INSERT INTO "+w.table+" (id, version, note, amount) VALUES (?, ?, ?, ?)", id, version, "new", "1.00")
		return err
	case 2:
		to := id + loadedRows
		if r.IntN(2) == 0 {
			id, to = to, id
		}
		if err := remove(to); err != nil {
			return err
		}
		n, err := run("UPDATE "+w.table+" SET id = ?, version = ? WHERE id = ?", to, version, id)
		if n > 0 {
			steps.add(id, opMoved, 0)
			steps.add(to, "u", version)
		}
		return err
	default:
		n, err := run("UPDATE "+w.table+" SET version = ? WHERE id = ?", version, id)
		if n > 0 {
			steps.add(id, "u", version)
		}
		return err
	}
}

// opMoved stands in the audit for a row that has got another key.
const opMoved = "m"

// loadOracle replays what is delivered.
type loadOracle struct {
	state  map[int]account
	newest map[int]int // version of the newest event of the stream, by key
	older  map[int]int // a row of a snapshot came after a newer event: its version must come again
	reads  int
	last   int
	ids    map[string]bool
	again  int
	steps  map[int][]step // of the stream, without repetitions
}

// finishLoad ends the writers after the load, awaits what they wrote last, stops the process, and holds what was delivered against the table, and against the changes
// that were made. Those after a place in the audit table were made after the source had begun.
func finishLoad(t *testing.T, p *process, w *workload, dst sink, from int) *loadOracle {
	t.Helper()
	eventually(t, patience, "the end of the load", func() bool { return strings.Contains(p.log.String(), "is done:") })
	w.end()
	w.sentinel()
	eventually(t, patience, "the last row", func() bool { return complete(dst.all(t)) })
	p.stop()
	o := replay(t, dst.all(t))
	assert.Empty(t, o.older)
	assert.True(t, maps.Equal(w.contents(), o.state), "the replay of all events differs from the table")
	assert.Greater(t, o.reads, 1000)
	w.checkSteps(o.steps, from)
	return o
}

func replay(t *testing.T, messages []delivered) *loadOracle {
	t.Helper()
	o := &loadOracle{state: map[int]account{}, newest: map[int]int{}, older: map[int]int{}, ids: map[string]bool{}, steps: map[int][]step{}}
	for _, m := range messages {
		var e struct {
			event
			Source struct {
				Snapshot string `json:"snapshot"`
			} `json:"source"`
		}
		require.NoError(t, json.Unmarshal(m.value, &e), "value %s", m.value)
		before, after := partial(t, e.Before), partial(t, e.After)
		if after.ID == 0 && !bytes.Contains([]byte(raw(e.After)), []byte(`"id"`)) {
			after.ID = before.ID // row image MINIMAL
		}
		if o.ids[e.EventID] {
			o.again++
		} else {
			o.step(e.event, before, after)
		}
		o.ids[e.EventID] = true
		switch e.Op {
		case "d":
			delete(o.state, before.ID)
			delete(o.older, before.ID)
			continue
		case "r":
			o.reads++
			if e.Source.Snapshot == "last" {
				o.last++
			} else {
				require.Equal(t, "true", e.Source.Snapshot)
			}
			if after.Version < o.newest[after.ID] {
				o.older[after.ID] = o.newest[after.ID]
			}
		default:
			was, known := o.state[after.ID]
			if e.Before != nil && before.ID != after.ID {
				was, known = o.state[before.ID]
				delete(o.state, before.ID)
				delete(o.older, before.ID)
			}
			after = after.over(was, known)
			o.newest[after.ID] = max(o.newest[after.ID], after.Version)
			if after.Version >= o.older[after.ID] {
				delete(o.older, after.ID)
			}
		}
		o.state[after.ID] = after
	}
	return o
}

// step notes what an event of the stream does to its row.
func (o *loadOracle) step(e event, before, after account) {
	switch {
	case e.Op == "r":
	case e.Op == "d":
		o.steps[before.ID] = append(o.steps[before.ID], step{"d", 0})
	case e.Before != nil && before.ID != after.ID:
		o.steps[before.ID] = append(o.steps[before.ID], step{opMoved, 0})
		fallthrough
	default:
		o.steps[after.ID] = append(o.steps[after.ID], step{e.Op, after.Version})
	}
}

// missing is what stands for a value that no event has brought.
const missing = "missing"

// partial reads a row image, in which values may be missing.
func partial(t *testing.T, image *json.RawMessage) account {
	t.Helper()
	a := account{Note: missing, Amount: missing}
	if image == nil {
		return a
	}
	var values map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(*image, &values))
	for name, v := range values {
		if bytes.Contains(v, []byte(`"_unchanged":true`)) {
			continue
		}
		var err error
		switch name {
		case "id":
			err = json.Unmarshal(v, &a.ID)
		case "version":
			err = json.Unmarshal(v, &a.Version)
		case "note":
			err = json.Unmarshal(v, &a.Note)
		case "amount":
			err = json.Unmarshal(v, &a.Amount)
		}
		require.NoError(t, err)
	}
	return a
}

// over returns a row with what it lacks taken from the row before.
func (a account) over(was account, known bool) account {
	if known && a.Note == missing {
		a.Note = was.Note
	}
	if known && a.Amount == missing {
		a.Amount = was.Amount
	}
	return a
}

// loadSources are the sources whose tables are loaded: all databases, and MySQL by places in its files, too.
func loadSources(t *testing.T) map[string]func(t *testing.T) source {
	t.Helper()
	all := sources(t)
	all["mysql by places"] = func(t *testing.T) source {
		src := mysqlSource(t, testenv.MySQL(t))
		src.input = strings.Replace(src.input, "    snapshot:", "    use_gtid: false\n    snapshot:", 1)
		return src
	}
	if longWanted() {
		all["postgres 18"] = func(t *testing.T) source {
			return postgresSource(t, testenv.StartPostgresOf(t, "18", servers.Options{NoSync: true}))
		}
	}
	for name, open := range all {
		all[name] = func(t *testing.T) source {
			src := open(t)
			src.input = strings.Replace(src.input, "snapshot: {mode: never}", "snapshot: {chunk_rows: 1500, max_parallel_chunks: 3}", 1)
			return src
		}
	}
	full := all["mysql"]
	all["mysql with row image MINIMAL"] = func(t *testing.T) source {
		src := full(t)
		src.before = []string{"SET SESSION binlog_row_image = 'MINIMAL'"}
		return src
	}
	toasted := all["postgres"]
	all["postgres with unchanged TOAST"] = func(t *testing.T) source { return toast(toasted(t)) }
	if newer := all["postgres 18"]; newer != nil {
		all["postgres 18"] = func(t *testing.T) source { return toast(newer(t)) }
	}
	return all
}

// toast has the notes of rows kept beside the table, so that an event of a row whose note has not changed lacks it.
func toast(src source) source {
	src.prepare = "ALTER TABLE accounts ALTER note TYPE text, ALTER note SET STORAGE EXTERNAL"
	src.note = strings.Repeat("x", 2500)
	return src
}

// The rows that are there are loaded while eight connections change them, and the process is killed again and again. What is delivered
// equals the table, and no row of the snapshot is older than an event of its key before it, unless that event comes again.
func TestLoadedUnderLoad(t *testing.T) {
	binary(t)
	for name, open := range loadSources(t) {
		t.Run(name, func(t *testing.T) {
			src := open(t)
			dst := kafkaSink(t, testenv.Kafka(t), 1) // one partition: a change of a key keeps its place among the others
			w := src.workload(t)
			if src.prepare != "" {
				_, err := src.db.ExecContext(t.Context(), src.prepare)
				require.NoError(t, err)
			}
			w.begin = src.before
			w.fill(src.note)
			p := newProcess(t, src.input+dst.output)
			w.churn(8)
			p.start()
			awaitSaved(t, p)
			from := w.audited()
			r := rand.New(rand.NewPCG(1, uint64(len(name))))
			for range killed {
				time.Sleep(time.Duration(50+r.IntN(500)) * time.Millisecond)
				p.kill()
				p.start()
			}
			o := finishLoad(t, p, w, dst, from)
			t.Logf("%d rows of the snapshot, %d of them the last of the table, %d events delivered again", o.reads, o.last, o.again)
		})
	}
}
