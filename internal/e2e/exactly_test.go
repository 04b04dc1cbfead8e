package e2e

import (
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

// exactKills is how often the exactly-once tests kill the process.
func exactKills() int {
	if long() {
		return killed
	}
	return 6
}

// exactSources are the sources whose position the output keeps.
func exactSources(t *testing.T) map[string]func(t *testing.T) source {
	t.Helper()
	all := sources(t)
	if !long() {
		delete(all, "mariadb")
	}
	for name, open := range all {
		all[name] = func(t *testing.T) source {
			src := open(t)
			src.input = strings.Replace(src.input, "    snapshot:", "    checkpoint: {exactly_once: true}\n    snapshot:", 1)
			return src
		}
	}
	return all
}

// exactSinks are the outputs that keep the position.
func exactSinks(t *testing.T) map[string]func(t *testing.T, partitions int) sink {
	t.Helper()
	return map[string]func(t *testing.T, partitions int) sink{
		"redis": func(t *testing.T, _ int) sink {
			s := redisSink(t, testenv.Redis(t))
			s.output += "    exactly_once: true\n"
			return s
		},
		"kafka": func(t *testing.T, partitions int) sink {
			s := kafkaSink(t, testenv.Kafka(t), partitions)
			s.output += "    exactly_once: true\n"
			return s
		},
	}
}

// eachExactly runs a test for each pair of a source and a sink.
func eachExactly(t *testing.T, partitions int, run func(t *testing.T, src source, dst sink)) {
	t.Helper()
	binary(t)
	for from, openSource := range exactSources(t) {
		for to, openSink := range exactSinks(t) {
			t.Run(from+" to "+to, func(t *testing.T) { run(t, openSource(t), openSink(t, partitions)) })
		}
	}
}

// awaitKept waits until the output keeps the first position.
func awaitKept(t *testing.T, p *process) {
	t.Helper()
	eventually(t, patience, "a position that the output keeps", func() bool {
		n, ok := p.metric("deltaforge_checkpoint_success_total")
		return ok && n > 0
	})
}

// The process is killed at random moments while rows are written: each change is delivered once, in the order of its row.
func TestExactlyOnceKilledUnderLoad(t *testing.T) {
	eachExactly(t, 3, func(t *testing.T, src source, dst sink) {
		a := killedUnderLoad(t, src, dst)
		assert.Zero(t, a.again, "events delivered again")
	})
}

func killedUnderLoad(t *testing.T, src source, dst sink) *audit {
	t.Helper()
	w := src.workload(t)
	p := newProcess(t, src.input+dst.output)
	p.start()
	awaitKept(t, p)
	w.run(4, 2*time.Millisecond)
	r := rand.New(rand.NewPCG(7, uint64(len(src.name))))
	for n := range exactKills() {
		if n%2 == 0 { // however long a busy machine takes to begin
			before := len(dst.all(t))
			eventually(t, patience, "more delivered", func() bool { return len(dst.all(t)) > before })
		}
		time.Sleep(time.Duration(100+r.IntN(700)) * time.Millisecond)
		p.kill()
		p.start()
	}
	w.end()
	a := finish(t, w, dst, patience)
	p.stop()
	return a
}

// The same without exactly_once finds events that were delivered again: so the oracle sees them, and the kills come at moments that matter. A position is saved
// seldom, so that a kill between the delivery and the save is certain.
func TestAtLeastOnceKilledUnderLoad(t *testing.T) {
	part(t, 0)
	eachExactly(t, 3, func(t *testing.T, src source, dst sink) {
		src.input = strings.Replace(src.input, "checkpoint: {exactly_once: true}", "checkpoint: {interval_ms: 2000}", 1)
		dst.output = strings.Replace(dst.output, "    exactly_once: true\n", "", 1)
		a := killedUnderLoad(t, src, dst)
		assert.Positive(t, a.again, "events delivered again")
	})
}

// The rows that are there are loaded while others change them, and the process is killed again and again: each event is delivered once, the rows of
// the snapshot too.
func TestExactlyOnceKilledWhileLoading(t *testing.T) {
	eachExactly(t, 1, func(t *testing.T, src source, dst sink) {
		src.input = strings.Replace(src.input, "snapshot: {mode: never}", "snapshot: {chunk_rows: 1500, max_parallel_chunks: 3}", 1)
		w := src.workload(t)
		w.fill("")
		p := newProcess(t, src.input+dst.output)
		w.churn(4)
		p.start()
		awaitKept(t, p)
		from := w.audited()
		r := rand.New(rand.NewPCG(3, uint64(len(src.name))))
		for range exactKills() {
			time.Sleep(time.Duration(50+r.IntN(400)) * time.Millisecond)
			p.kill()
			p.start()
		}
		o := finishLoad(t, p, w, dst, from)
		assert.Zero(t, o.again, "events delivered again")
		t.Logf("%d rows of the snapshot", o.reads)
	})
}

// A process that is stopped (SIGSTOP) under load, and goes on when another one has taken over, writes nothing any more and says that it is fenced.
func TestExactlyOnceTwin(t *testing.T) {
	eachExactly(t, 3, func(t *testing.T, src source, dst sink) {
		w := src.workload(t)
		first := newProcess(t, src.input+dst.output)
		first.start()
		awaitKept(t, first)
		w.run(4, 2*time.Millisecond)
		before := len(dst.all(t))
		eventually(t, patience, "more delivered", func() bool { return len(dst.all(t)) > before+50 })
		require.NoError(t, first.cmd.Process.Signal(syscall.SIGSTOP))

		second := newProcess(t, src.input+dst.output)
		if src.slot != "" { // a slot has one reader: what a failed machine holds is taken from it
			_, err := src.db.ExecContext(t.Context(), "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '"+src.slot+"' AND active")
			require.NoError(t, err)
		}
		second.start()
		before = len(dst.all(t))
		eventually(t, patience, "more delivered by the second one", func() bool { return len(dst.all(t)) > before+50 })
		require.NoError(t, first.cmd.Process.Signal(syscall.SIGCONT))
		eventually(t, patience, "that the first one is fenced", func() bool {
			log := first.log.String()
			// Where a slot has another reader, the first one does not even get rows to write.
			return strings.Contains(log, "another instance of the pipeline has taken over") || src.slot != "" && strings.Contains(log, "is in use by the server process")
		})
		w.end()
		a := finish(t, w, dst, patience)
		assert.Zero(t, a.again, "events delivered again")
		if src.slot == "" {
			eventually(t, patience, "that the pipeline shows as failed", func() bool {
				status, ok := first.metric("deltaforge_pipeline_status")
				return ok && status == -1
			})
		}
		second.stop()
	})
}
