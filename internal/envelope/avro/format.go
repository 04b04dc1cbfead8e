// Package avro is the format of Avro with a schema registry: Confluent's wire format. The bytes are written from the typed values of the
// event, without a library on the way.
package avro

import (
	"context"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope/confluent"
)

// Format is the format. It is immutable; its address is the key of what it keeps at tables.
type Format struct {
	confluent.Naming
	confluent.Shaping
	// Optional makes all columns of the row nullable, so that columns can come and go whatever compatibility the registry asks for.
	Optional bool
	// DecimalText, TimeText and ArrayText: these types are strings.
	DecimalText, TimeText, ArrayText bool
	// Enums: the enumerations of MySQL are Avro's. Else they are strings.
	Enums bool
	// Placeholder stands for a text or bytes that the log does not carry.
	Placeholder string
}

var (
	_ change.Format   = (*Format)(nil)
	_ change.Preparer = (*Format)(nil)
)

// NewEncoder implements change.Format.
func (f *Format) NewEncoder() change.Encoder {
	return confluent.NewEncoder("avro", &f.Shaping, &encoder{format: f})
}

// tableText is what the format says about a table. All but the numbers is immutable.
type tableText struct {
	columns []*column
	key     []int
	names   []byte // of the source: version, connector, name
	db      []byte
	table   []byte // what follows the times of the source

	*confluent.Schemas
}

// Prepare implements change.Preparer: it registers the schemas of the table.
func (f *Format) Prepare(ctx context.Context, t *change.Table) error {
	return f.Naming.Prepare(ctx, t, f.textOf(t).Schemas)
}

func (f *Format) textOf(t *change.Table) *tableText {
	x, _ := t.Text(f, f.makeText).(*tableText)
	return x
}

func (f *Format) makeText(t *change.Table) any {
	x := &tableText{key: t.Key}
	var ok bool
	if x.Schemas, ok = f.NewSchemas(t, confluent.Namespace); !ok {
		return x
	}
	names := confluent.NamesOf(t)
	for i := range t.Columns {
		x.columns = append(x.columns, f.column(t, i, names[i]))
	}
	x.Value, x.Key = f.valueSchema(x, t, x.Space), f.keySchema(x, x.Space)
	x.Record = recordValue
	if f.Shape == confluent.ShapeEnvelope {
		x.Record = recordEnvelope
	}
	x.addSource(t)
	return x
}
