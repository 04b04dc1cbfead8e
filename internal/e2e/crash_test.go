package e2e

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// killed is how often the crash test kills the process.
const killed = 20

// The process is killed at random moments while rows are written. Nothing is lost, the order of each row's changes holds,
// and what is delivered twice has the same event id.
func TestKilledUnderLoad(t *testing.T) {
	binary(t)
	for name, open := range sources(t) {
		t.Run(name, func(t *testing.T) {
			src := open(t)
			dst := kafkaSink(t, testenv.Kafka(t), 3)
			w := src.workload(t)
			p := newProcess(t, inStore(t, name, src)+dst.output)
			// The position "latest" exists from the first connection on: nothing is written before it.
			p.start()
			awaitKept(t, p)
			guard := watchSlot(t, src, p)
			w.run(4, 10*time.Millisecond)
			r := rand.New(rand.NewPCG(42, uint64(len(name))))
			killAgainAndAgain(t, p, dst, killed, func() time.Duration { return time.Duration(200+r.IntN(900)) * time.Millisecond })
			w.end()
			a := finish(t, w, dst, 60*time.Second)
			guard()
			p.stop()
			assert.Positive(t, a.again, "twenty kills under load and nothing was delivered twice: did they hit anything?")
		})
	}
}

// inStore returns the input with its position in another store for each source, and the store.
func inStore(t *testing.T, name string, src source) string {
	t.Helper()
	var store string
	switch name {
	case "mariadb":
		pg := testenv.Postgres(t)
		store = fmt.Sprintf("postgres: {dsn: %q}", pg.DSN(pg.Database(t)))
	case "mysql":
		store = fmt.Sprintf("redis: {url: 'redis://%s', prefix: '%s:position:'}", testenv.Redis(t).Addr(), src.slug)
	default:
		return src.input // the embedded one, which watchSlot looks into
	}
	return strings.Replace(src.input, "    snapshot:", "    checkpoint: {cache: positions}\n    snapshot:", 1) +
		"cache_resources:\n- label: positions\n  deltaforge_checkpoint:\n    " + store + "\n"
}

// killAgainAndAgain kills the process a number of times, each time a random while after its start; every other time that while begins when
// the process has delivered something, however long a busy machine takes for that. It goes on until something was delivered twice.
func killAgainAndAgain(t *testing.T, p *process, dst sink, times int, while func() time.Duration) {
	t.Helper()
	for n := 0; n < times || n < 10*times && !repeated(t, dst); n++ {
		if n%2 == 0 {
			before := dst.count(t)
			eventually(t, patience, "more delivered", func() bool { return dst.count(t) > before })
		}
		time.Sleep(while())
		p.kill()
		p.start()
	}
}

// repeated reports whether an event was delivered more than once.
func repeated(t *testing.T, dst sink) bool {
	t.Helper()
	seen := map[string]bool{}
	for _, m := range dst.all(t) {
		var e event
		require.NoError(t, json.Unmarshal(m.value, &e))
		if seen[e.EventID] {
			return true
		}
		seen[e.EventID] = true
	}
	return false
}

// On one processor nothing that must run beside something else may wait for it.
func TestOneProcessor(t *testing.T) {
	binary(t)
	for name, open := range sources(t) {
		t.Run(name, func(t *testing.T) {
			src := open(t)
			dst := kafkaSink(t, testenv.Kafka(t), 3)
			w := src.workload(t)
			p := newProcess(t, src.input+dst.output)
			p.env = []string{"GOMAXPROCS=1"}
			p.start()
			awaitSaved(t, p)
			guard := watchSlot(t, src, p)
			w.run(4, time.Millisecond)
			time.Sleep(time.Second)
			p.kill()
			p.start()
			time.Sleep(2 * time.Second)
			w.end()
			finish(t, w, dst, 60*time.Second)
			guard()
			p.stop()
		})
	}
}

// awaitSaved waits until the process has saved its first position.
func awaitSaved(t *testing.T, p *process) {
	t.Helper()
	eventually(t, 30*time.Second, "a saved position\n"+p.log.String(), func() bool {
		_, ok := savedPosition(t, p)
		return ok
	})
}

func storePath(p *process) string { return filepath.Join(p.dir, "deltaforge-checkpoints.db") }

// savedPosition reads the only record in the process's store, without disturbing the process.
func savedPosition(t *testing.T, p *process) (string, bool) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	s, err := checkpoint.OpenExistingSQLite(ctx, storePath(p))
	if err != nil {
		return "", false
	}
	defer func() { _ = s.Close() }()
	keys, err := s.Keys(ctx)
	if err != nil || len(keys) == 0 {
		return "", false
	}
	data, err := s.Peek(ctx, keys[0])
	if err != nil {
		return "", false
	}
	rec, err := checkpoint.UnmarshalRecord(data)
	if err != nil {
		return "", false
	}
	return rec.Position, true
}

// watchSlot samples that the server's confirmed position is never ahead of the saved one. The returned function ends it
// when it has seen enough, which needs the process to run. It does nothing for other databases.
func watchSlot(t *testing.T, src source, p *process) (end func()) {
	t.Helper()
	if src.slot == "" {
		return func() {}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	const samplesEnough = 100
	seen := make(chan struct{})
	wg.Go(func() {
		samples, moves, last := 0, 0, ""
		for ctx.Err() == nil {
			// The confirmed position first: the saved one only grows.
			confirmed, err := confirmedFlush(ctx, src)
			if err != nil {
				if !errors.Is(err, sql.ErrNoRows) && ctx.Err() == nil {
					t.Errorf("reading the slot: %v", err)
				}
				continue
			}
			saved, ok := savedPosition(t, p)
			if !ok {
				continue
			}
			if samples++; confirmed != last {
				moves, last = moves+1, confirmed
			}
			if samples >= samplesEnough && moves > 1 {
				select {
				case <-seen:
				default:
					close(seen)
				}
			}
			if !assert.LessOrEqual(t, lsn(t, confirmed), lsn(t, saved), "confirmed %s, saved %s", confirmed, saved) {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	return func() {
		select {
		case <-seen:
		case <-time.After(patience):
			t.Errorf("no %d samples of a slot that moves", samplesEnough)
		}
		cancel()
		wg.Wait()
	}
}

func confirmedFlush(ctx context.Context, src source) (s string, err error) {
	err = src.db.QueryRowContext(ctx, "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1 "+
		"AND confirmed_flush_lsn IS NOT NULL", src.slot).Scan(&s)
	return s, err
}

func lsn(t *testing.T, s string) uint64 {
	t.Helper()
	var hi, lo uint64
	_, err := fmt.Sscanf(s, "%X/%X", &hi, &lo)
	require.NoError(t, err, "LSN %q", s)
	return hi<<32 | lo
}

// The sink goes away under load and comes back; the source keeps its connection meanwhile.
func TestSinkStopped(t *testing.T) {
	binary(t)
	away := 8 * time.Second
	if long() {
		away = time.Minute
	}
	for name, open := range sources(t) {
		t.Run(name+"/kafka", func(t *testing.T) {
			srv := testenv.StartKafka(t, servers.Options{})
			sinkStopped(t, open(t), kafkaSink(t, srv, 3), srv.Server, away)
		})
		t.Run(name+"/redis", func(t *testing.T) {
			srv := testenv.StartRedis(t, servers.Options{Args: []string{"--appendonly", "yes", "--appendfsync", "always"}})
			sinkStopped(t, open(t), redisSink(t, srv), srv.Server, away)
		})
	}
}

func sinkStopped(t *testing.T, src source, dst sink, srv *servers.Server, away time.Duration) {
	w := src.workload(t)
	p := newProcess(t, src.input+dst.output)
	p.start()
	awaitSaved(t, p)
	guard := watchSlot(t, src, p)
	w.run(3, 10*time.Millisecond)
	time.Sleep(2 * time.Second)
	require.NoError(t, srv.Stop(t.Context()))
	time.Sleep(away)
	require.NoError(t, srv.Start(t.Context()))
	time.Sleep(2 * time.Second)
	w.end()
	finish(t, w, dst, 90*time.Second)
	guard()
	again, _ := p.metric("deltaforge_source_reconnects_total")
	assert.Zero(t, again, "the source kept its connection")
	p.stop()
}

// slowly makes a pipeline slow enough to be killed in the middle of something.
const slowly = `
pipeline:
  processors:
    - sleep: {duration: '${! if batch_index() == 0 { "150ms" } else { "0s" } }'}
`

// One transaction of 200,000 rows, killed in the middle: complete, and in bounded memory.
func TestHugeTransactionKilled(t *testing.T) {
	binary(t)
	const rows = 200_000
	for name, open := range sources(t) {
		t.Run(name, func(t *testing.T) {
			src := open(t)
			dst := kafkaSink(t, testenv.Kafka(t), 3)
			w := src.workload(t)
			p := newProcess(t, src.input+dst.output+slowly)
			p.start()
			awaitSaved(t, p)
			hugeTransaction(t, w, rows)
			// Killed when it has delivered something and not all, three times.
			for range 3 {
				before := dst.count(t)
				eventually(t, 60*time.Second, "more rows delivered", func() bool { return dst.count(t) > before+5000 })
				p.kill()
				t.Logf("killed with %d records in the topic", dst.count(t))
				p.start()
			}
			a := finish(t, w, dst, 120*time.Second)
			p.stop()
			t.Logf("peak resident size %d MiB, %d delivered again", p.peakKiB>>10, a.again)
			assert.Less(t, p.peakKiB>>10, 300, "MiB of resident memory")
		})
	}
}

func hugeTransaction(t *testing.T, w *workload, rows int) {
	t.Helper()
	tx, err := w.db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	const chunk = 1000
	for from := 0; from < rows; from += chunk {
		var q strings.Builder
		fmt.Fprintf(&q, "INSERT INTO %s (id, version, note, amount) VALUES ", w.table)
		for id := from; id < from+chunk; id++ {
			if id > from {
				q.WriteByte(',')
			}
			fmt.Fprintf(&q, "(%d, 1, 'row %d of a transaction that does not fit into memory', 7.01)", id, id)
		}
		_, err := tx.ExecContext(t.Context(), q.String())
		require.NoError(t, err)
	}
	require.NoError(t, tx.Commit())
	w.known = map[int][]step{}
	for id := range rows {
		w.known[id] = []step{{"c", 1}}
	}
	w.count(rows)
}
