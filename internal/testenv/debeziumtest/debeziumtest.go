// Package debeziumtest compares messages in the format debezium with the records of a Debezium that reads the same log.
package debeziumtest

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/testenv"
	"github.com/deltaforge/deltaforge/internal/typematrix"
)

// Payloads takes the schemas out of records.
func Payloads(t testing.TB, records []testenv.DebeziumRecord) []testenv.DebeziumRecord {
	t.Helper()
	payload := func(text string) string {
		var whole struct{ Payload json.RawMessage }
		require.NoError(t, json.Unmarshal([]byte(text), &whole))
		return string(whole.Payload)
	}
	out := slices.Clone(records)
	for i := range out {
		r := &out[i]
		for _, b := range []*[]byte{&r.Key, &r.Value} {
			if *b != nil {
				*b = []byte(payload(string(*b)))
			}
		}
		r.Headers = maps.Clone(r.Headers)
		for name, h := range r.Headers {
			r.Headers[name] = payload(h)
		}
	}
	return out
}

// Same compares a message with Debezium's record, which has a topic, and returns where they differ. It leaves out what is told apart by a clock, and what apart
// says of by its path.
func Same(t testing.TB, want testenv.DebeziumRecord, m *service.Message, topic string, apart func(path, difference string) bool) (differ []string) {
	t.Helper()
	ev, ok := change.FromMessage(m)
	require.True(t, ok)
	payload, err := m.AsBytes()
	require.NoError(t, err)
	assert.Equal(t, want.Topic, topic)
	var key []byte
	if len(ev.Key()) > 0 {
		key = ev.Key()
	}
	differ, err = typematrix.Differences(want.Key, key)
	require.NoError(t, err)
	headers := map[string]string{}
	for _, h := range ev.Headers {
		headers[h.Name] = string(h.Value)
	}
	maps.DeleteFunc(want.Headers, func(name, _ string) bool { return strings.HasPrefix(name, "__debezium.context.") })
	assert.Equal(t, slices.Sorted(maps.Keys(want.Headers)), slices.Sorted(maps.Keys(headers)))
	for name, h := range headers {
		d, err := typematrix.Differences([]byte(want.Headers[name]), []byte(h))
		require.NoError(t, err)
		differ = append(differ, d...)
	}
	all, err := typematrix.Differences(want.Value, payload)
	require.NoError(t, err)
	for _, d := range all {
		path, _, _ := strings.Cut(strings.TrimPrefix(d, "payload."), ":")
		if !slices.Contains([]string{"ts_ms", "ts_us", "ts_ns", "source.version"}, path) && !apart(path, d) {
			differ = append(differ, d)
		}
	}
	return differ
}

// IsEnd reports a record of the table z, which the tests write last.
func IsEnd(r testenv.DebeziumRecord) bool { return strings.HasSuffix(r.Topic, ".z") }
