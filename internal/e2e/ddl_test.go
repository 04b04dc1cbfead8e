package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

// killedAroundDDL is how often the process is killed while tables change, and bound for how long it may take to catch up.
const (
	killedAroundDDL = 10
	ddlWorkers      = 3
	ddlPatience     = patience
)

// The process is killed at random moments while tables are altered, renamed, swapped and copied under load. Every event has the columns
// that its table had when the statement ran, nothing is lost, and the replay of all events is what the tables hold.
func TestKilledAroundDDL(t *testing.T) {
	binary(t)
	for name, open := range sources(t) {
		t.Run(name, func(t *testing.T) {
			src := open(t)
			dst := kafkaSink(t, testenv.Kafka(t), 1) // one partition has the order of the log
			seed := testenv.Seed(t)
			walkers := make([]*ddlWalker, ddlWorkers)
			for n := range walkers {
				walkers[n] = newDDLWalker(t, src, n, seed)
			}
			p := newProcess(t, src.input+dst.output)
			p.start()
			awaitSaved(t, p)
			end := runWalkers(t, walkers)
			r := rand.New(rand.NewPCG(seed, 1))
			killAgainAndAgain(t, p, dst, killedAroundDDL, func() time.Duration { return time.Duration(300+r.IntN(1500)) * time.Millisecond })
			end()
			a := auditWalkers(t, walkers, dst)
			a.check(t, walkers)
			p.stop()
			assert.Positive(t, a.again, "killed under load and nothing was delivered twice: did it hit anything?")
		})
	}
}

// shapeAudit is what was delivered: each event once, in the order of its first delivery, by the walker whose table it is of.
type shapeAudit struct {
	order map[string][]string          // walker to events
	state map[string]map[string]string // table and id to row, repetitions included
	again int
}

// shapeEvent is what the audit needs of an event.
type shapeEvent struct {
	Before  *json.RawMessage `json:"before"`
	After   *json.RawMessage `json:"after"`
	Op      string           `json:"op"`
	EventID string           `json:"event_id"`
	Source  struct {
		Table string `json:"table"`
	} `json:"source"`
}

// auditWalkers reads until every walker's last event is there, or time is up.
func auditWalkers(t *testing.T, walkers []*ddlWalker, dst sink) *shapeAudit {
	t.Helper()
	for deadline := time.Now().Add(ddlPatience); ; time.Sleep(500 * time.Millisecond) {
		a := &shapeAudit{order: map[string][]string{}, state: map[string]map[string]string{}}
		seen := map[string]string{}
		for _, m := range dst.all(t) {
			a.add(t, seen, m.value)
		}
		complete := true
		for _, w := range walkers {
			complete = complete && len(a.order[w.owner]) >= len(w.want)
		}
		if complete || time.Now().After(deadline) {
			return a
		}
	}
}

func (a *shapeAudit) add(t *testing.T, seen map[string]string, value []byte) {
	t.Helper()
	var e shapeEvent
	require.NoError(t, json.Unmarshal(value, &e), "%s", value)
	before, after := flatRow(t, e.Before), flatRow(t, e.After)
	line := fmt.Sprintf("%s %s %s %s", e.Op, e.Source.Table, before, after)
	owner, _, _ := strings.Cut(e.Source.Table, "_")
	if e.Op == "t" {
		a.state[e.Source.Table] = nil
	} else {
		if a.state[e.Source.Table] == nil {
			a.state[e.Source.Table] = map[string]string{}
		}
		if id := idOf(before); id != "" {
			delete(a.state[e.Source.Table], id)
		}
		if id := idOf(after); id != "" {
			a.state[e.Source.Table][id] = after
		}
	}
	if first, ok := seen[e.EventID]; ok {
		a.again++
		require.Equal(t, first, line, "event id %s names two different events", e.EventID)
		return
	}
	seen[e.EventID] = line
	a.order[owner] = append(a.order[owner], line)
}

// check compares with what the walkers did and with what the tables hold.
func (a *shapeAudit) check(t *testing.T, walkers []*ddlWalker) {
	t.Helper()
	total, altered := 0, 0
	for _, w := range walkers {
		got := a.order[w.owner]
		for i, want := range w.want {
			if i >= len(got) || got[i] != want {
				t.Logf("what was done then:\n%s", strings.Join(w.trail, "\n"))
				require.Less(t, i, len(got), "%s lacks events from number %d of %d on: %s", w.owner, i, len(w.want), want)
				require.Equal(t, want, got[i], "event %d of %s", i, w.owner)
			}
		}
		require.Len(t, got, len(w.want), w.owner)
		for _, table := range w.tables() {
			require.True(t, maps.Equal(w.contents(table), a.state[table]), "the replay of all events differs from table %s: %v, %v", table,
				w.contents(table), a.state[table])
		}
		total, altered = total+len(w.want), altered+w.altered
	}
	t.Logf("%d events, %d statements that changed tables, %d delivered again", total, altered, a.again)
	assert.Greater(t, total, 100, "the workload did too little to prove anything")
	assert.Greater(t, altered, 30, "the workload did too little to prove anything")
}

// flatRow writes a row image as name=value pairs in their order; "-" for none.
func flatRow(t *testing.T, image *json.RawMessage) string {
	t.Helper()
	if image == nil {
		return "-"
	}
	dec := json.NewDecoder(bytes.NewReader(*image))
	dec.UseNumber()
	_, err := dec.Token()
	require.NoError(t, err, "%s", *image)
	var b strings.Builder
	for dec.More() {
		name, err := dec.Token()
		require.NoError(t, err, "%s", *image)
		value, err := dec.Token()
		require.NoError(t, err, "%s", *image)
		if value == nil {
			value = "NULL"
		}
		fmt.Fprintf(&b, "%s=%v,", name, value)
	}
	return b.String()
}

// idOf returns the value of the column id in a flat row.
func idOf(row string) string {
	for pair := range strings.SplitSeq(row, ",") {
		if id, ok := strings.CutPrefix(pair, "id="); ok {
			return id
		}
	}
	return ""
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
