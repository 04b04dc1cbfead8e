package columns

import (
	"fmt"
	"slices"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/envelope/debezium"
	"github.com/deltaforge/deltaforge/internal/testenv/steptest"
)

// loud leaves out what a source does not hand out.
func loud(batch service.MessageBatch) service.MessageBatch {
	return slices.DeleteFunc(batch, func(m *service.Message) bool {
		ev, ok := change.Own(m)
		return ok && ev.Silent
	})
}

// seen is all that outputs see of messages.
func seen(t *testing.T, batch service.MessageBatch) (lines []string) {
	t.Helper()
	for _, m := range batch {
		require.NoError(t, m.GetError())
		ev, ok := change.FromMessage(m)
		require.True(t, ok)
		line := fmt.Sprintf("%s tombstone=%v headers=%s", steptest.Payload(t, m), ev.Tombstone, ev.Headers)
		for _, k := range append(change.MetadataKeys(), "__debezium.oldkey", "__debezium.newkey") {
			if k != change.MetaSchema {
				v, _, _ := change.Meta(m, k, nil)
				line += fmt.Sprintf(" %s=%s", k, v)
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// In every format, what comes out is what a source of a table with those columns would give: for changes of the key, too, of which some
// formats make several messages.
func TestEveryFormat(t *testing.T) {
	const yaml = `rules: [ { exclude: [ photo, card ], rename: { email: mail }, mask: [ { columns: [ id ], with: hash, salt: s }, { columns: [ pin ], with: fixed } ] } ]`
	masked := func(id int64) []change.Value {
		return []change.Value{text(hash("s", fmt.Sprint(id))), text("ann@example.com"), text("***")}
	}
	shape := []change.Column{{Name: "id", Type: "char(64)"}, {Name: "mail", Type: "varchar(99)", Nullable: true}, {Name: "pin", Type: "text"}}
	all := func(table *change.Table, row func(id int64) []change.Value) service.MessageBatch {
		o := steptest.Origin()
		return loud(steptest.Batch(
			steptest.Event(o, 1, change.Create, table, nil, row(900719)), steptest.Event(o, 2, change.Update, table, row(900719), row(900719)),
			steptest.Event(o, 3, change.Update, table, row(900719), row(900720)), steptest.Event(o, 4, change.Delete, table, row(900720), nil),
			steptest.Event(o, 5, change.Truncate, table, nil, nil), steptest.Event(o, 6, change.Read, table, nil, row(900719)),
		))
	}
	for name, format := range map[string]change.Format{
		"native": envelope.Native{}, "row": envelope.Row{Deletes: envelope.DeleteKeep}, "row, null": envelope.Row{Deletes: envelope.DeleteNull},
		"row, drop": envelope.Row{Deletes: envelope.DeleteDrop}, "debezium": debezium.Default(),
	} {
		for _, keys := range [][]string{nil, change.MetadataKeys()} {
			t.Run(fmt.Sprint(name, len(keys)), func(t *testing.T) {
				table := steptest.With(customers(), format, keys...)
				want := seen(t, all(table.With(shape, []int{0}), masked))
				got := build(t, yaml).Process(t.Context(), all(table, row))
				assert.Equal(t, want, seen(t, got))
				for _, line := range seen(t, got) {
					assert.NotContains(t, line, "9007")
				}
			})
		}
	}
}
