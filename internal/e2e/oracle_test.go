package e2e

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// account is a row of the workload's table.
type account struct {
	ID      int    `json:"id"`
	Version int    `json:"version"`
	Note    string `json:"note"`
	Amount  string `json:"amount"`
}

// event is what the oracle needs of a delivered event.
type event struct {
	Before  *json.RawMessage `json:"before"`
	After   *json.RawMessage `json:"after"`
	Op      string           `json:"op"`
	EventID string           `json:"event_id"`
}

// delivered is one delivered message: its key and its payload, in the order of its partition or stream.
type delivered struct {
	key   []byte
	value []byte
}

// audit compares what was delivered with what was committed.
type audit struct {
	t     *testing.T
	seen  map[string]string // event id to its content
	order map[int][]step    // by id, without repetitions
	state map[int]account   // replay of everything, repetitions included
	again int               // repetitions
}

func newAudit(t *testing.T) *audit {
	return &audit{t: t, seen: map[string]string{}, order: map[int][]step{}, state: map[int]account{}}
}

// add takes deliveries in; those of one key must come in the order of their delivery.
func (a *audit) add(messages []delivered) {
	a.t.Helper()
	for _, m := range messages {
		var key struct {
			ID *int `json:"id"`
		}
		require.NoError(a.t, json.Unmarshal(m.key, &key), "key %s", m.key)
		require.NotNil(a.t, key.ID, "key %s", m.key)
		var e event
		require.NoError(a.t, json.Unmarshal(m.value, &e), "value %s", m.value)
		require.NotEmpty(a.t, e.EventID)
		a.one(*key.ID, e)
	}
}

func (a *audit) one(id int, e event) {
	var now account
	if e.Op == "d" {
		delete(a.state, id)
	} else {
		require.NotNil(a.t, e.After, "event %s", e.EventID)
		require.NoError(a.t, json.Unmarshal(*e.After, &now))
		require.Equal(a.t, id, now.ID)
		a.state[id] = now
	}
	content := e.Op + raw(e.Before) + raw(e.After)
	if first, ok := a.seen[e.EventID]; ok {
		a.again++
		require.Equal(a.t, first, content, "event id %s names two different events", e.EventID)
		return
	}
	a.seen[e.EventID] = content
	a.order[id] = append(a.order[id], step{e.Op, now.Version})
}

func raw(r *json.RawMessage) string {
	if r == nil {
		return "null"
	}
	return string(*r)
}

// complete reports whether the last row has arrived.
func complete(messages []delivered) bool {
	return slices.ContainsFunc(messages, func(m delivered) bool { return bytes.Equal(m.key, sentinelKey) })
}

// check asserts that nothing is lost, nothing invented, the order of each row's changes is that of their commits, and the
// replay is the table.
func (a *audit) check(w *workload) {
	a.t.Helper()
	want := w.committed()
	total, wrong := 0, 0
	for id, steps := range want {
		total += len(steps)
		if !slices.Equal(steps, a.order[id]) {
			if wrong++; wrong <= 3 {
				assert.Equal(a.t, steps, a.order[id], "changes of row %d", id)
			}
		}
	}
	assert.Zero(a.t, wrong, "rows whose changes differ, of %d", len(want))
	for id := range a.order {
		if _, ok := want[id]; !ok { // not require.Contains: it walks the map
			a.t.Fatalf("row %d, which nobody wrote", id)
		}
	}
	require.True(a.t, maps.Equal(w.contents(), a.state), "the replay of all events differs from the table")
	a.t.Logf("%d changes of %d rows, %d delivered again", total, len(want), a.again)
	require.Greater(a.t, total, 100, "the workload did too little to prove anything")
}
