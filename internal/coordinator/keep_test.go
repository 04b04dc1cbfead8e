package coordinator

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/deltaforge/deltaforge/internal/livecopy"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// recordingKeeper notes what an output that keeps copies hears, with how many rows are delivered by then.
type recordingKeeper struct {
	heard    []string
	fails    string // of the calls
	consumer *simConsumer
}

func (k *recordingKeeper) note(what, table, load string) error {
	if load == "" {
		what += " without a load"
	}
	said := fmt.Sprintf("%s %s with %d rows", what, table, k.consumer.reads)
	if n := len(k.heard); n == 0 || k.heard[n-1] != said {
		k.heard = append(k.heard, said)
	}
	if what == k.fails {
		return errors.New("no connection")
	}
	return nil
}

func (k *recordingKeeper) Begin(_ context.Context, table, load string) error {
	return k.note("begin", table, load)
}

func (k *recordingKeeper) End(_ context.Context, table, load string) error {
	return k.note("end", table, load)
}

// TestCopiesAreTold: an output that keeps copies hears of the beginning of a load before anything is read, and of its end when everything is delivered, until it
// has done what it does then, also in another process. A load of some rows only is no load of the table.
func TestCopiesAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, store := newSimDB(t, newRand(1), 50), newMemStore()
		cfg := loadConfig(snapshot.Initial)
		run := func(fails, state, problem string, rows int, heard ...string) {
			t.Helper()
			in := newTestInput(t, cfg, simLog{d}, store, nil)
			k := &recordingKeeper{fails: fails, consumer: &simConsumer{rows: map[int]simRow{}, newest: map[int]int{}, loaded: map[int]int{}}}
			pipeline := livecopy.New()
			pipeline.Join(k)
			in.loader.Copies(pipeline)
			loadRunInto(t, in, k.consumer, 20*time.Second)
			status := in.loader.Status().Tables[0]
			assert.Equal(t, []string{state, problem}, []string{status.State, status.Problem})
			assert.Equal(t, rows, k.consumer.reads)
			assert.Equal(t, heard, k.heard)
		}
		run("begin", "waiting", "reading it: preparing the copy of it: no connection", 0, "begin db.t with 0 rows")
		run("end", "pruning", "removing rows that it does not have from the copy of it: no connection", 50, "begin db.t with 0 rows", "end db.t with 50 rows")
		run("", "done", "", 0, "end db.t with 0 rows")
		run("", "done", "", 0)

		store = newMemStore()
		cfg.Snapshot.Where = map[string]string{"db.t": "id > 0"}
		run("", "done", "", 50)
	})
}
