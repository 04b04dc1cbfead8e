package format

import (
	"strings"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/envelope/debezium"
	"github.com/deltaforge/deltaforge/internal/testenv/steptest"
)

func table() *change.Table {
	return steptest.Table("shop", "orders", change.Column{Name: "id", Type: "int", Logical: change.LogicalInt32},
		change.Column{Name: "total", Type: "decimal(10,2)", Logical: change.LogicalDecimal, Precision: 10, Scale: 2, Nullable: true})
}

func row(id int64, total string) []change.Value {
	return []change.Value{change.IntValue(id), change.DecimalValue([]byte(total))}
}

// events are an insert, an update of the key, a delete and a truncate.
func events(t *change.Table) []*change.Event {
	o := steptest.Origin()
	return []*change.Event{
		steptest.Event(o, 1, change.Create, t, nil, row(1, "1.50")), steptest.Event(o, 2, change.Update, t, row(1, "1.50"), row(2, "1.50")),
		steptest.Event(o, 3, change.Delete, t, row(2, "1.50"), nil), steptest.Event(o, 4, change.Truncate, t, nil, nil),
	}
}

// told are payload, key, id and headers of messages.
func told(t *testing.T, batch service.MessageBatch) (lines []string) {
	t.Helper()
	for _, m := range batch {
		require.NoError(t, m.GetError())
		ev, ok := change.FromMessage(m)
		require.True(t, ok)
		key, _ := m.MetaGet(change.MetaKey)
		id, _ := m.MetaGet(change.MetaEventID)
		was, _ := m.MetaGet("__debezium.oldkey")
		line := []string{id, key, steptest.Payload(t, m), was}
		if ev.Tombstone {
			line = append(line, "tombstone")
		}
		lines = append(lines, strings.Join(line, " "))
	}
	return lines
}

// Whatever the format of the source is, the processor makes what a source with the other format does.
func TestSameAsTheSource(t *testing.T) {
	formats := map[string]change.Format{
		"format: native": envelope.Native{}, "format: row\n  row: {delete_rows: drop}": envelope.Row{Deletes: envelope.DeleteDrop}, "format: debezium": debezium.Default(),
		"format: cloudevents": &envelope.CloudEvents{}, "format: cloudevents\n  cloudevents: {mode: binary, data: row}": &envelope.CloudEvents{Binary: true, Row: true},
	}
	for yaml, want := range formats {
		var all service.MessageBatch
		for _, m := range steptest.Batch(events(steptest.With(table(), want))...) {
			if ev, _ := change.Own(m); !ev.Silent {
				all = append(all, m)
			}
		}
		for from, was := range formats {
			if _, drops := was.(envelope.Row); drops {
				continue // what a source leaves out is not there for the processor either
			}
			if _, leavesOut := was.(*debezium.Format); leavesOut {
				continue
			}
			batch := steptest.Batch(events(steptest.With(table(), was))...)
			got := steptest.Through(t, []service.MessageBatch{batch}, "deltaforge_format:\n  "+yaml)
			assert.Equal(t, told(t, all), told(t, got), "%s after %s", yaml, from)
			got = steptest.Through(t, []service.MessageBatch{steptest.Batch(events(steptest.With(table(), was))...)}, "deltaforge_format: {format: debezium, debezium: {truncates: true}}", "deltaforge_format:\n  "+yaml)
			assert.Equal(t, told(t, all), told(t, got), "%s after debezium and %s", yaml, from)
		}
	}
}

// A processor that has changed a payload may not come first: its change would be lost.
func TestReplacedPayloads(t *testing.T) {
	batch := steptest.Batch(events(table())[0])
	got := steptest.Through(t, []service.MessageBatch{batch}, "mapping: 'root = \"mine\"'", "deltaforge_format: {format: row}")
	require.Len(t, got, 1)
	require.ErrorIs(t, got[0].GetError(), change.ErrReplaced)
	assert.Equal(t, "mine", steptest.Payload(t, got[0]))
}

func TestForeignMessagesPass(t *testing.T) {
	got := steptest.Through(t, []service.MessageBatch{{service.NewMessage([]byte("theirs"))}}, "deltaforge_format: {format: debezium}")
	require.Len(t, got, 1)
	require.NoError(t, got[0].GetError())
	assert.Equal(t, "theirs", steptest.Payload(t, got[0]))
}

func TestConfig(t *testing.T) {
	err := service.NewStreamBuilder().AddProcessorYAML("deltaforge_format: {format: xml}")
	require.ErrorContains(t, err, "xml")
}

// BenchmarkProcess makes batches of a thousand updates again.
func BenchmarkProcess(b *testing.B) {
	tb, o := table(), steptest.Origin()
	all := make([]*change.Event, 1000)
	for i := range all {
		all[i] = steptest.Event(o, i+1, change.Update, tb, row(int64(i), "1.50"), row(int64(i), "2.50"))
	}
	batch := steptest.Batch(all...)
	for name, f := range map[string]change.Format{"row": envelope.Row{}, "debezium": debezium.Default()} {
		b.Run(name, func(b *testing.B) {
			p := &processor{format: f}
			b.ReportAllocs()
			for b.Loop() {
				p.Process(b.Context(), batch)
			}
		})
	}
}

// A row costs its event and its message, and nothing more.
func TestAllocations(t *testing.T) {
	tb, o := table(), steptest.Origin()
	all := make([]*change.Event, 500)
	for i := range all {
		all[i] = steptest.Event(o, i+1, change.Update, tb, row(int64(i), "1.50"), row(int64(i), "2.50"))
	}
	batch, p := steptest.Batch(all...), &processor{format: debezium.Default()}
	require.Len(t, p.Process(t.Context(), batch), len(all))
	perRow := testing.AllocsPerRun(10, func() { p.Process(t.Context(), batch) }) / float64(len(all))
	assert.LessOrEqual(t, perRow, 12.0)
	t.Log(perRow)
}

// A value that the format has no form for is an error of the message, as it is with a source of that format.
func TestNoForm(t *testing.T) {
	ev := steptest.Event(steptest.Origin(), 1, change.Create, table(), nil, row(1, "NaN"))
	got := steptest.Through(t, []service.MessageBatch{steptest.Batch(ev)}, "deltaforge_format: {format: debezium}")
	require.Len(t, got, 1)
	require.EqualError(t, got[0].GetError(), "column total of shop.orders has a value with no form in the format debezium: NaN is no decimal; decimal: string or double have it")
}
