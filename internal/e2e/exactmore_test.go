package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// Redis runs out of memory in the middle of a load, and gets more later: each change is there once, in the order of its row.
func TestExactlyOnceOutOfMemory(t *testing.T) {
	part(t, 7)
	binary(t)
	redis := testenv.StartRedis(t, servers.Options{Args: []string{"--maxmemory-policy", "noeviction"}})
	src, dst := mysqlSource(t, testenv.MySQL(t)), redisSink(t, redis)
	w := src.workload(t)
	p := newProcess(t, strings.Replace(src.input, "    snapshot:", "    checkpoint: {exactly_once: true}\n    snapshot:", 1)+dst.output+"    exactly_once: true\n")
	p.start()
	awaitKept(t, p)
	w.run(4, 2*time.Millisecond)
	eventually(t, patience, "some delivered", func() bool { return len(dst.all(t)) > 200 })
	limit := func(bytes string) {
		require.NoError(t, redis.Client(t).ConfigSet(t.Context(), "maxmemory", bytes).Err())
	}
	limit("1")
	eventually(t, patience, "that it is said", func() bool {
		return strings.Contains(p.log.String(), "raise maxmemory, or bound the streams with max_len")
	})
	before := w.changes()
	eventually(t, patience, "more changes", func() bool { return w.changes() > before+500 })
	p.kill() // what waits is not lost with the process
	p.start()
	limit("0")
	w.end()
	a := finish(t, w, dst, patience)
	assert.Zero(t, a.again, "events delivered again")
	p.stop()
}

// The position is lost, the source begins anew and loads the tables again, and the output keeps the position all the while: each event is delivered once.
func TestExactlyOnceLostPosition(t *testing.T) {
	part(t, 7)
	binary(t)
	src, dst := postgresSource(t, testenv.Postgres(t)), redisSink(t, testenv.Redis(t))
	snapshot := "checkpoint: {exactly_once: true}\n    on_position_lost: snapshot\n    snapshot: {chunk_rows: 1500, max_parallel_chunks: 3}"
	w := src.workload(t)
	w.fill("")
	p := newProcess(t, strings.Replace(src.input, "snapshot: {mode: never}", snapshot, 1)+dst.output+"    exactly_once: true\n")
	p.start()
	loads := func(n int) {
		t.Helper()
		eventually(t, patience, fmt.Sprintf("load %d", n), func() bool { return strings.Count(p.log.String(), "is done:") >= n })
	}
	loads(1)
	p.stop()
	_, err := src.db.ExecContext(t.Context(), "UPDATE accounts SET note = 'changed unseen' WHERE id < 1000")
	require.NoError(t, err)
	_, err = src.db.ExecContext(t.Context(), "SELECT pg_drop_replication_slot('"+src.slot+"')")
	require.NoError(t, err)
	p.start()
	eventually(t, patience, "a new beginning", func() bool { return strings.Contains(p.log.String(), "is given up") })
	p.kill()
	p.start()
	loads(2)
	w.sentinel()
	eventually(t, patience, "the last row", func() bool { return complete(dst.all(t)) })
	p.stop()
	o := replay(t, dst.all(t))
	assert.Zero(t, o.again, "events delivered again")
	assert.Equal(t, w.contents(), o.state)
	assert.GreaterOrEqual(t, o.reads, 2*loadedRows)
}

// A stock broker gives each batch to both outputs. Each has everything, in order, through kills.
func TestBrokerFanOut(t *testing.T) {
	part(t, 2)
	binary(t)
	src := postgresSource(t, testenv.Postgres(t))
	kafka, redis := kafkaSink(t, testenv.Kafka(t), 3), redisSink(t, testenv.Redis(t))
	item := func(output string) string {
		body := strings.TrimPrefix(output, "\noutput:\n  ")
		return "      - " + strings.ReplaceAll(body, "\n  ", "\n          ")
	}
	w := src.workload(t)
	p := newProcess(t, src.input+"\noutput:\n  broker:\n    pattern: fan_out\n    outputs:\n"+item(kafka.output)+item(redis.output))
	p.start()
	awaitSaved(t, p)
	w.run(4, 5*time.Millisecond)
	for range 3 {
		before := len(redis.all(t))
		eventually(t, patience, "more delivered", func() bool { return len(redis.all(t)) > before+100 })
		p.kill()
		p.start()
	}
	w.end()
	finish(t, w, kafka, patience)
	a := newAudit(t)
	eventually(t, patience, "the last row in Redis", func() bool { return complete(redis.all(t)) })
	a.add(redis.all(t))
	a.check(w)
	p.stop()
}
