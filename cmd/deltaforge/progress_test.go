package main

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	contract "github.com/deltaforge/deltaforge/internal/plane"
)

// tableOf is how the snapshot of a table is.
func tableOf(name, state string, rows, estimate int64) contract.TableSnapshot {
	return contract.TableSnapshot{Table: name, State: state, Rows: rows, Estimate: estimate}
}

func TestProgressBar(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	problem := tableOf("a.b", "waiting", 0, 100)
	problem.Problem = "no SELECT"
	steps := []struct {
		after  time.Duration
		tables []contract.TableSnapshot
		paused bool
		want   string
	}{
		{0, nil, false, ""},
		{time.Second, []contract.TableSnapshot{tableOf("a.b", "done", 7, 7), tableOf("a.c", "stopped", 3, 9)}, false, ""},
		{time.Second, []contract.TableSnapshot{tableOf("a.b", "loading", 0, 1000)}, false, "Loading a.b [------------------------] 0 %  0 of about 1000 rows"},
		{time.Second, []contract.TableSnapshot{tableOf("a.b", "loading", 100, 1000)}, false, "Loading a.b [##----------------------] 10 %  100 of about 1000 rows  100 rows/s  about 9s left"},
		{time.Second, []contract.TableSnapshot{tableOf("a.b", "loading", 300, 1000)}, false, "Loading a.b [#######-----------------] 30 %  300 of about 1000 rows  120 rows/s  about 6s left"},
		{0, []contract.TableSnapshot{tableOf("a.b", "loading", 300, 1000)}, true, "Loading a.b [#######-----------------] 30 %  300 of about 1000 rows  paused"},
		{time.Second, []contract.TableSnapshot{tableOf("a.b", "done", 1010, 1000), tableOf("a.c", "waiting", 0, 990)}, false, "Loading 1 of 2 tables [############------------] 50 %  1010 of about 2000 rows  238 rows/s  about 4s left"},
		{time.Second, []contract.TableSnapshot{tableOf("a.b", "done", 1010, 1000), tableOf("a.c", "loading", 990, 990)}, false, "Loading 1 of 2 tables  2000 rows  388 rows/s"},
		{time.Second, []contract.TableSnapshot{tableOf("a.b", "done", 1010, 1000), tableOf("a.c", "done", 995, 990)}, false, ""},
		{time.Second, []contract.TableSnapshot{tableOf("a.b", "loading", 5, -1)}, false, "Loading a.b  5 rows"},
		{time.Second, []contract.TableSnapshot{problem}, false, "Loading a.b [------------------------] 0 %  0 of about 100 rows  a.b has to wait, see the log"},
	}
	b := newBar(io.Discard)
	for i, s := range steps {
		at = at.Add(s.after)
		assert.Equal(t, s.want, b.line(map[string]contract.SnapshotStatus{"shop": {Paused: s.paused, Tables: s.tables}}, at), "step %d", i)
	}
}

// A line of the log takes the place of the bar, which is drawn again below it.
func TestProgressBarIsBelowTheLog(t *testing.T) {
	var terminal bytes.Buffer
	b := newBar(&terminal)
	log := b.below(&terminal)
	loading := map[string]contract.SnapshotStatus{"shop": {Tables: []contract.TableSnapshot{tableOf("a.b", "loading", 0, 4)}}}
	fmt.Fprintln(log, "first")
	b.draw(loading, time.Now())
	fmt.Fprintln(log, "second")
	fmt.Fprintln(log, "third")
	b.draw(loading, time.Now())
	b.draw(nil, time.Now())
	b.draw(nil, time.Now())
	text := barErase + noWrap + "Loading a.b [------------------------] 0 %  0 of about 4 rows" + wrap
	assert.Equal(t, "first\n"+text+barErase+"second\nthird\n"+text+barErase, terminal.String())
}
