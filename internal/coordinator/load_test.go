package coordinator

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/plane"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// loadRun runs an input for some time, acknowledges what it delivers and returns it; ended means that the input has ended by itself.
func loadRun(t *testing.T, in *Input, d time.Duration) (c *simConsumer, ended bool) {
	t.Helper()
	c = &simConsumer{rows: map[int]simRow{}, newest: map[int]int{}, loaded: map[int]int{}}
	return c, loadRunInto(t, in, c, d)
}

// loadRunInto is loadRun with a consumer that is there already.
func loadRunInto(t *testing.T, in *Input, c *simConsumer, d time.Duration) (ended bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	for ctx.Err() == nil && !ended {
		if err := in.Connect(ctx); err != nil {
			continue
		}
		for {
			batch, ack, err := in.ReadBatch(ctx)
			if err != nil {
				ended = errors.Is(err, service.ErrEndOfInput)
				break
			}
			c.take(t, batch)
			require.NoError(t, ack(ctx, nil))
		}
	}
	require.NoError(t, in.Close(context.Background()))
	return ended
}

// opened opens what a first Connect does, before it connects.
func opened(t *testing.T, in *Input) {
	t.Helper()
	in.link.attach(in, in.res)
	require.NoError(t, in.open(t.Context()))
}

func loadConfig(mode snapshot.Mode) Config {
	return Config{
		MaxInFlight: 1, MaxEvents: 20, RespectTx: true, CheckpointInterval: 20 * time.Millisecond,
		Snapshot: snapshot.Config{Mode: mode, ChunkRows: 7, Parallel: 2},
	}
}

// TestSnapshotModes: which starts load the table.
func TestSnapshotModes(t *testing.T) {
	for name, c := range map[string]struct {
		modes []snapshot.Mode // of the starts, one after the other
		old   bool            // a position was saved before there were snapshots
		reads []int           // rows of the snapshot in each run
		ends  bool            // the last run ends by itself
	}{
		"never":                         {modes: []snapshot.Mode{snapshot.Never}, reads: []int{0}},
		"initial":                       {modes: []snapshot.Mode{snapshot.Initial, snapshot.Initial}, reads: []int{50, 0}},
		"initial, with an old position": {modes: []snapshot.Mode{snapshot.Initial, snapshot.Initial}, old: true, reads: []int{0, 0}},
		"initial after never":           {modes: []snapshot.Mode{snapshot.Never, snapshot.Initial}, reads: []int{0, 0}},
		"always":                        {modes: []snapshot.Mode{snapshot.Always, snapshot.Always}, reads: []int{50, 50}},
		"always, with an old position":  {modes: []snapshot.Mode{snapshot.Always}, old: true, reads: []int{50}},
		"initial_only":                  {modes: []snapshot.Mode{snapshot.InitialOnly, snapshot.InitialOnly}, reads: []int{50, 0}, ends: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, store := newSimDB(t, newRand(1), 50), newMemStore()
				if c.old {
					require.NoError(t, checkpoint.Save(t.Context(), store, "fake", "fake", checkpoint.Token{Source: "server", Commit: commitText(0)}, time.Now()))
				}
				for i, mode := range c.modes {
					got, ended := loadRun(t, newTestInput(t, loadConfig(mode), simLog{d}, store, nil), 5*time.Second)
					assert.Equal(t, c.reads[i], got.reads, "run %d", i)
					assert.Equal(t, min(c.reads[i], 1), got.last, "run %d", i)
					assert.Equal(t, c.ends, ended, "run %d", i)
				}
			})
		})
	}
}

// TestSnapshotResumes: after the end of a process only what was not acknowledged is read again, and a pause holds.
func TestSnapshotResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, store := newSimDB(t, newRand(1), 400), newMemStore()
		cfg := loadConfig(snapshot.Initial)
		cfg.Snapshot.Rate = 200
		in := newTestInput(t, cfg, simLog{d}, store, nil)
		first, _ := loadRun(t, in, time.Second)
		status := in.loader.Status().Tables[0]
		assert.Equal(t, "loading", status.State)
		assert.EqualValues(t, first.reads, status.Rows)
		assert.InDelta(t, float64(first.reads)/400, status.Ratio, 0.001)

		in = newTestInput(t, cfg, simLog{d}, store, nil)
		opened(t, in)
		_, err := in.loader.Request(plane.SnapshotRequest{Action: "pause"})
		require.NoError(t, err)
		paused, _ := loadRun(t, in, 5*time.Second)
		assert.Zero(t, paused.reads)

		in = newTestInput(t, cfg, simLog{d}, store, nil)
		opened(t, in)
		still, _ := loadRun(t, in, time.Second)
		assert.Zero(t, still.reads, "a pause survives a restart")

		in = newTestInput(t, cfg, simLog{d}, store, nil)
		opened(t, in)
		_, err = in.loader.Request(plane.SnapshotRequest{Action: "resume"})
		require.NoError(t, err)
		rest, _ := loadRun(t, in, time.Hour)
		assert.Equal(t, 400, first.reads+rest.reads, "nothing that was acknowledged comes again")
		total := 0
		for _, n := range d.reads {
			total += n
		}
		assert.LessOrEqual(t, total, 400+2*cfg.Snapshot.Parallel*cfg.Snapshot.ChunkRows, "at most the chunks under way are read again")
		assert.Equal(t, "done", in.loader.Status().Tables[0].State)
	})
}

// TestSnapshotRequests: what a person asks for, and what is wrong with it.
func TestSnapshotRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, store := newSimDB(t, newRand(1), 30), newMemStore()
		in := newTestInput(t, loadConfig(snapshot.Never), simLog{d}, store, nil)
		_, err := in.loader.Request(plane.SnapshotRequest{Action: "start"})
		assert.ErrorContains(t, err, "has not listed its tables yet")
		done := make(chan *simConsumer)
		go func() {
			c, _ := loadRun(t, in, time.Minute)
			done <- c
		}()
		time.Sleep(time.Second)
		for _, c := range []struct {
			r    plane.SnapshotRequest
			want string
		}{
			{plane.SnapshotRequest{Action: "start", Tables: []string{"db.nothing"}}, "no captured table is called db.nothing"},
			{plane.SnapshotRequest{Action: "stop", Tables: []string{"db.t"}}, "no load of db.t is under way"},
			{plane.SnapshotRequest{Action: "begin"}, `action: want start, pause, resume or stop, got "begin"`},
		} {
			_, err := in.loader.Request(c.r)
			assert.ErrorContains(t, err, c.want)
		}
		for range 2 {
			status, err := in.loader.Request(plane.SnapshotRequest{Action: "start", Tables: []string{"db.%"}})
			require.NoError(t, err)
			assert.Contains(t, []string{"waiting", "loading"}, status.Tables[0].State)
			time.Sleep(2 * time.Second)
		}
		_, err = in.loader.Request(plane.SnapshotRequest{Action: "start"})
		require.NoError(t, err)
		status, err := in.loader.Request(plane.SnapshotRequest{Action: "stop"})
		require.NoError(t, err)
		assert.Equal(t, "stopped", status.Tables[0].State)
		c := <-done
		assert.InDelta(t, 61, c.reads, 1, "loaded twice, perhaps with a last row again after an empty part, and stopped before it was read once more")
	})
}

// signalTable makes the events of a signal table.
func signalEvent(n int, kind, data string) *service.Message {
	table := &change.Table{Source: fakeSource, Database: "db", Name: "signal", Key: []int{0}, Columns: []change.Column{{Name: "id"}, {Name: "type"}, {Name: "data"}}}
	return change.NewMessage(&change.Event{
		Op: change.Create, Table: table, Index: 1, Origin: &change.Origin{Tx: &change.Tx{Position: fmt.Sprint("s", n)}},
		Images: change.ImagesOf(nil, []change.Value{change.TextValue([]byte("a")), change.TextValue([]byte(kind)), change.TextValue([]byte(data))}),
	}, []byte("{}"), nil)
}

// TestSignals: rows in the signal table are requests, each of which counts once, also after a restart.
func TestSignals(t *testing.T) {
	d, store := newSimDB(t, newRand(1), 30), newMemStore()
	cfg := loadConfig(snapshot.Never)
	cfg.Snapshot.Signal = "db.signal"
	in := newTestInput(t, cfg, simLog{d}, store, nil)
	tables, err := d.Tables(t.Context())
	require.NoError(t, err)
	opened(t, in)
	j := in.loader.Session(0, commitText(0), true)
	send := func(n int, kind, data string) {
		j.Segment(service.MessageBatch{signalEvent(n, kind, data)}, commitText(n))
	}
	state := func() string {
		s := in.loader.Status()
		if len(s.Tables) == 0 {
			return "none"
		}
		if s.Paused {
			return s.Tables[0].State + ", paused"
		}
		return s.Tables[0].State
	}
	send(0, "execute-snapshot", `{"data-collections": ["db.*"]}`)
	assert.Equal(t, "none", state(), "the tables are not known yet")
	in.loader.Reconcile(tables)
	assert.Equal(t, "waiting", state())
	_, err = in.loader.Stop(nil)
	require.NoError(t, err)
	for i, c := range []struct{ kind, data, want string }{
		{"execute-snapshot", "", "stopped"},
		{"execute-snapshot", "{", "stopped"},
		{"execute-snapshot", `{"data-collections": ["db.other"]}`, "stopped"},
		{"log", "", "stopped"},
		{"execute-snapshot", `{"data-collections": ["db.t"], "type": "incremental"}`, "waiting"},
		{"pause-snapshot", "", "waiting, paused"},
		{"resume-snapshot", "", "waiting"},
		{"stop-snapshot", `{"data-collections": ["catalog.db.t"]}`, "stopped"},
	} {
		send(i+1, c.kind, c.data)
		assert.Equal(t, c.want, state(), "%d: %s", i, c.kind)
	}
	send(5, "execute-snapshot", `{"data-collections": ["db.t"]}`)
	assert.Equal(t, "stopped", state(), "a signal that comes again counts for nothing")
	send(9, "execute-snapshot", `{"data-collections": ["db\\.t"], "additional-condition": "id > 3"}`)
	assert.Equal(t, "waiting", state())
	require.NoError(t, in.Close(context.Background()))
}

// TestFirstStartIsRemembered: a process that ends after its first position is saved, and before it knows its tables, has another one after it that loads them.
func TestFirstStartIsRemembered(t *testing.T) {
	d := newSimDB(t, newRand(1), 3)
	in := newTestInput(t, loadConfig(snapshot.Initial), simLog{d}, newMemStore(), nil)
	opened(t, in)
	record, _, err := in.loader.Record(0)
	require.NoError(t, err)
	require.NotNil(t, record, "it is saved with the first position")
	require.NoError(t, in.Close(context.Background()))

	next := newTestInput(t, loadConfig(snapshot.Initial), simLog{d}, newMemStore(), nil)
	require.NoError(t, next.loader.Begin(record, false))
	tables, err := d.Tables(t.Context())
	require.NoError(t, err)
	next.loader.Reconcile(tables)
	require.Len(t, next.loader.Status().Tables, 1)
	assert.Equal(t, "waiting", next.loader.Status().Tables[0].State)
}

// TestNothingGoesOutBeforeTheFirstPosition: without a saved position, a process that ends would have another first start after it, at a later place.
func TestNothingGoesOutBeforeTheFirstPosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemStore()
		store.block = make(chan struct{})
		d := newSimDB(t, newRand(1), 3)
		in := newTestInput(t, loadConfig(snapshot.Initial), simLog{d}, store, nil)
		require.NoError(t, in.Connect(t.Context()))
		read := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			_, ack, err := in.ReadBatch(ctx)
			if err == nil {
				require.NoError(t, ack(ctx, nil))
			}
			return err
		}
		require.ErrorIs(t, read(), context.DeadlineExceeded)
		close(store.block)
		require.NoError(t, read())
		require.NoError(t, in.Close(context.Background()))
	})
}
