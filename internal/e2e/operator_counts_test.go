package e2e

import (
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// pipeline is one of the deck's, with what it carries.
type deckPipeline struct {
	id, source, sink, kind string
	src                    source
	w                      *workload
	dst                    sink
	payload, wire          float64 // bytes of what was delivered: payloads, and all of it
}

// toRedis makes what a pipeline delivers to a stream its output and what the test reads.
func (p *deckPipeline) toRedis(srv *testenv.RedisServer, stream string) string {
	p.dst = sink{all: func(t *testing.T) []delivered {
		out := readStream(t, srv, stream)
		p.payload = 0
		for _, m := range out {
			p.payload += float64(len(m.value))
		}
		return out
	}}
	return p.src.input + deckStream(srv.Addr(), stream)
}

// toKafka is toRedis for a topic, which also counts all bytes of the records.
func (p *deckPipeline) toKafka(srv *testenv.KafkaServer, topic, output string) string {
	p.dst = sink{all: func(t *testing.T) (out []delivered) {
		p.payload, p.wire = 0, 0
		for _, r := range srv.ConsumeAll(t, topic) {
			out = append(out, delivered{key: r.Key, value: r.Value})
			p.payload += float64(len(r.Value))
			p.wire += float64(len(r.Key) + len(r.Value))
			for _, h := range r.Headers {
				p.wire += float64(len(h.Key) + len(h.Value) + 10)
			}
		}
		return out
	}}
	return p.src.input + output
}

// A pipeline for each database carries a random workload, and every number is what the databases and the consumers say.
func TestOperatorCounts(t *testing.T) {
	d := newDeck(t, "")
	// Databases of its own: every byte of their logs counts.
	own := servers.Options{NoSync: true}
	shop, shelf, accounts := testenv.StartMySQL(t, own), testenv.StartPostgres(t, own), testenv.StartMariaDB(t, own)
	orders := &deckPipeline{id: "orders", sink: "broker", kind: "deltaforge_mysql", src: deckBinlog(t, d, shop, "shop", "")}
	books := &deckPipeline{id: "books", sink: "store", kind: "deltaforge_postgres", src: deckPostgresOn(t, d, shelf, "")}
	ledger := &deckPipeline{id: "ledger", sink: "store", kind: "deltaforge_mysql", src: deckBinlog(t, d, accounts, "ledger", "")}
	kafka, topic, toBroker := deckKafka(t, d)
	redis, stream := deckRedis(t, d), testenv.Name(t)
	all := []*deckPipeline{orders, books, ledger}
	for _, p := range all {
		p.source = p.src.slug
	}
	for _, p := range all {
		p.w = p.src.workload(t)
	}
	began := time.Now()
	d.start()
	d.want(200, "POST", "/streams/orders", through(orders.toKafka(kafka, topic, toBroker)))
	d.want(200, "POST", "/streams/books", through(books.toRedis(redis, stream+"_books")))
	d.want(200, "POST", "/streams/ledger", through(ledger.toRedis(redis, stream+"_ledger")))
	d.want(400, "POST", "/streams/orders", "input: {nothing_like_this: {}}")
	for _, p := range all {
		d.until(60*time.Second, atLeast(1), "checkpoint_success_total", "pipeline="+p.id)
	}
	logs := []*logBytes{binlogBytes(t, d, orders), binlogBytes(t, d, ledger), pgoutputBytes(t, d, books)}
	for _, p := range all {
		p.w.run(3, 10*time.Millisecond)
	}
	time.Sleep(5 * time.Second)
	for _, p := range all {
		p.w.end()
		finish(t, p.w, p.dst, 90*time.Second)
	}
	stopped := time.Now()
	for _, p := range all {
		// Writers are still: the lag is gone within 15 s, however long ago the last commit was.
		for _, series := range []string{"source_lag_seconds", "source_table_lag_seconds"} {
			d.until(time.Until(stopped.Add(15*time.Second)), atMost(0), series, "pipeline="+p.id)
		}
	}
	for _, p := range all {
		d.until(90*time.Second, atMost(8192), "source_lag_bytes", "pipeline="+p.id)
		d.until(30*time.Second, atMost(0), "batches_in_flight", "pipeline="+p.id)
	}
	now := d.scrape()
	for _, p := range all {
		countsOf(t, now, p, began)
	}
	for _, l := range logs {
		l.check(t, now)
	}
	assert.InDelta(t, orders.wire, now.get("sink_bytes_total", "pipeline=orders"), 1e-6)

	idleGrows(t, d, all)
	schemaChanges(t, d, all)
	logicalMessages(t, d, books)
	loadedRowsCount(t, d, orders)
	lifecycle(t, d)
	d.covered()
	everyOperation(t, d)
}

// countsOf holds the numbers of one pipeline against the truth. Nothing was delivered twice.
func countsOf(t *testing.T, p page, of *deckPipeline, began time.Time) {
	t.Helper()
	in := "pipeline=" + of.id
	total := 0.0
	for op, n := range of.w.committedOps() {
		p.is(float64(n), "source_events_total", in, "tenant=acme", "source="+of.source, "table="+of.src.full, "op="+op)
		total += float64(n)
	}
	for _, series := range []string{
		"source_events_total", "batch_events_sum", "sink_events_total", "processor_events_in_total", "processor_events_out_total",
	} {
		p.is(total, series, in)
	}
	assert.Len(t, of.dst.all(t), int(total), "consumed")
	batches := p.get("sink_batch_total", in, "sink="+of.sink)
	assert.Greater(t, batches, 3.0)
	for _, series := range []string{
		"batch_events_count", "batch_bytes_count", "e2e_latency_seconds_count", "source_ack_latency_seconds_count",
		"processor_batches_in_total", "processor_batches_out_total", "sink_latency_seconds_count", "processor_latency_seconds_count",
	} {
		p.is(batches, series, in)
	}
	for _, stage := range []string{"decode", "batch", "process", "deliver"} {
		p.is(batches, "stage_latency_seconds_count", in, "stage="+stage)
	}
	within := p.get("stage_latency_seconds_sum", in, "stage=process") + p.get("stage_latency_seconds_sum", in, "stage=deliver")
	assert.LessOrEqual(t, within, p.get("e2e_latency_seconds_sum", in), "part of the way takes less than all of it")
	p.is(of.payload, "bytes_total", in)
	p.is(of.payload, "batch_bytes_sum", in)
	p.atLeast(of.payload, "sink_bytes_total", in)
	p.atLeast(of.payload/20, "source_bytes_total", in)
	p.is(0, "source_lag_seconds", in)
	p.is(1, "source_info", in, "source="+of.source)
	p.is(1, "source_connections_total", in)
	p.is(1, "sink_connections_total", in)
	p.is(10_000, "pipeline_channel_capacity", in)
	p.atLeast(1<<20, "sink_buffer_limit_bytes", in)
	for _, quiet := range []string{"source_reconnects_total", "source_errors_total", "sink_failures_total", "sink_retries_total", "panics_total"} {
		if v, _ := p.find(quiet, in); v != 0 {
			t.Errorf("%s is %v in a run without faults", quiet, v)
		}
	}
	eventually(t, time.Minute, "as many saves in each series", func() bool { // one may be counted while the page is made
		again := p.d.scrape()
		saves := again.get("checkpoint_success_total", in)
		return saves == again.get("checkpoint_latency_seconds_count", in) && saves == again.get("stage_latency_seconds_count", in, "stage=commit")
	})
	assert.WithinRange(t, time.Unix(int64(p.get("last_checkpoint_timestamp_seconds", in)), 0), began.Truncate(time.Second), time.Now())
	p.is(1, "build_info")
	p.is(1, "pipeline_status", in)
	p.is(1, "pipeline_info", in, "source_type="+of.kind)
}

// idleGrows: while nothing arrives the seconds pass.
func idleGrows(t *testing.T, d *deck, all []*deckPipeline) {
	t.Helper()
	for _, p := range all {
		d.follows(4, "source_idle_seconds", "pipeline="+p.id)
	}
}

// schemaChanges: one DDL is one more version, once a row of it is read; TRUNCATE is an event.
func schemaChanges(t *testing.T, d *deck, all []*deckPipeline) {
	t.Helper()
	before := d.scrape()
	for _, p := range all {
		labels := []string{"pipeline=" + p.id, "source=" + p.source, "table=" + p.src.full}
		was, _ := before.find("source_schema_changes_total", labels...)
		for _, q := range []string{
			"ALTER TABLE accounts ADD COLUMN extra INT",
			"INSERT INTO accounts (id, version, amount, extra) VALUES (77777, 1, 1, 5)",
			"TRUNCATE TABLE accounts",
		} {
			_, err := p.src.db.ExecContext(t.Context(), q)
			require.NoError(t, err)
		}
		now := d.until(60*time.Second, atLeast(1), "source_events_total", append(labels, "op=t")...)
		now.is(1, "source_events_total", append(labels, "op=t")...)
		now.is(was+1, "source_schema_changes_total", labels...)
	}
}

// logicalMessages: what pg_logical_emit_message writes is read as messages, unless its transaction is rolled back.
func logicalMessages(t *testing.T, d *deck, p *deckPipeline) {
	t.Helper()
	const emit = "SELECT pg_logical_emit_message(true, 'audit', 'message ' || i) FROM generate_series(1, 3) i"
	for _, end := range []func(*sql.Tx) error{(*sql.Tx).Rollback, (*sql.Tx).Commit} {
		tx, err := p.src.db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		_, err = tx.ExecContext(t.Context(), emit)
		require.NoError(t, err)
		require.NoError(t, end(tx))
	}
	labels := []string{"pipeline=" + p.id, "source=" + p.source, "table=pg_logical.message", "op=m"}
	d.until(60*time.Second, atLeast(3), "source_events_total", labels...).is(3, "source_events_total", labels...)
}

// loadedRowsCount: the rows that a snapshot reads count as read.
func loadedRowsCount(t *testing.T, d *deck, p *deckPipeline) {
	t.Helper()
	const rows = 3
	_, err := p.src.db.ExecContext(t.Context(), "INSERT INTO "+p.src.table+" (id, version, amount) VALUES (1, 1, 1), (2, 1, 1), (3, 1, 1)")
	require.NoError(t, err)
	d.want(200, "POST", "/streams/"+p.id+"/snapshot", fmt.Sprintf(`{"action": "start", "tables": [%q]}`, p.src.full))
	labels := []string{"pipeline=" + p.id, "table=" + p.src.full, "op=r"}
	d.until(60*time.Second, atLeast(rows), "source_events_total", labels...).is(rows, "source_events_total", labels...)
}

// everyOperation fails the test unless it has looked at every operation that there is. Rows are read, r, by snapshots alone.
func everyOperation(t *testing.T, d *deck) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	assert.ElementsMatch(t, []string{"c", "u", "d", "t", "m", "r"}, slices.Collect(maps.Keys(d.ops)))
}

// lifecycle: what an operator does is counted, and shows.
func lifecycle(t *testing.T, d *deck) {
	t.Helper()
	shows := func(status float64, running, paused, stopped int) {
		t.Helper()
		d.until(30*time.Second, exactly(status), "pipeline_status", "pipeline=books")
		d.pipelines(map[string]int{"running": running, "paused": paused, "stopped": stopped, "failed": 0})
	}
	shows(1, 3, 0, 0)
	d.want(200, "POST", "/streams/books/pause", "")
	shows(0.5, 2, 1, 0)
	d.want(200, "POST", "/streams/books/resume", "")
	shows(1, 3, 0, 0)
	d.want(200, "POST", "/streams/books/stop", "")
	shows(0, 2, 0, 1)
	// What is committed meanwhile waits, and the server keeps its log: the lag goes on.
	d.follows(4, "source_lag_seconds", "pipeline=books")
	now := d.scrape()
	for _, series := range []string{"source_table_lag_seconds", "source_lag_bytes"} {
		_, found := now.find(series, "pipeline=books")
		assert.True(t, found, "%s of a stopped pipeline", series)
	}
	d.want(200, "POST", "/streams/books/start", "")
	shows(1, 3, 0, 0)
	d.until(30*time.Second, atMost(0), "source_lag_seconds", "pipeline=books")
	now = d.scrape()
	for _, action := range []string{"create", "pause", "resume", "stop"} {
		now.is(1, "pipeline_lifecycle_total", "pipeline=books", "action="+action, "outcome=success")
	}
	d.want(200, "DELETE", "/streams/books", "")
	d.want(404, "POST", "/streams/nobody/pause", "")
	now = d.scrape()
	assert.NotContains(t, now.text, `pipeline="books"`, "a deleted pipeline takes its numbers with it")
	now.is(1, "pipeline_lifecycle_total", "pipeline=default", "action=delete", "outcome=success")
	now.is(1, "pipeline_lifecycle_total", "action=create", "outcome=error")
	now.is(3, "api_requests_total", "route=/streams/{id}", "method=POST", "status=200")
	now.is(1, "api_requests_total", "route=/streams/{id}", "method=POST", "status=400")
	now.is(4, "api_request_duration_seconds_count", "route=/streams/{id}", "method=POST")
}
