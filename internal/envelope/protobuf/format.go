// Package protobuf is the format of Protocol Buffers with a schema registry: Confluent's wire format. The bytes are written from the typed
// values of the event, without a library on the way.
//
// A registry keeps which number a column has. The schema of a table is the newest one of its subject, with the columns that it lacks: so
// numbers never change, and those of dropped columns are never used again, whoever registers.
package protobuf

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope/confluent"
)

// Registry keeps the numbers of columns.
type Registry interface {
	confluent.Registry
	// Latest returns the number and the text of the newest schema of a subject; an empty text if it has none.
	Latest(ctx context.Context, subject string) (id int, text string, err error)
}

// Format is the format. It is immutable; its address is the key of what it keeps at tables.
type Format struct {
	confluent.Naming
	confluent.Shaping
	Subjects Registry
	// DecimalMessage: a decimal with a precision is a message with its bytes. Else it is a string.
	DecimalMessage bool
	// TimeText and ArrayText: these types are strings.
	TimeText, ArrayText bool
	// Placeholder stands for a text or bytes that the log does not carry.
	Placeholder string

	turn chan struct{} // holds a token while schemas are asked for and registered: one version must know of the other
}

// New returns a format with the parts of it that are not options.
func New(n confluent.Naming, r Registry) *Format {
	return &Format{Naming: n, Subjects: r, turn: make(chan struct{}, 1)}
}

var (
	_ change.Format   = (*Format)(nil)
	_ change.Preparer = (*Format)(nil)
)

// NewEncoder implements change.Format.
func (f *Format) NewEncoder() change.Encoder {
	return confluent.NewEncoder("protobuf", &f.Shaping, &encoder{format: f})
}

// tableText is what the format says about a table. All but plan is immutable.
type tableText struct {
	*confluent.Schemas
	plan atomic.Pointer[plan] // nil before the schemas are registered
}

// plan is how the messages of a table are written.
type plan struct {
	valueHead, keyHead []byte
	columns            []*column
	key                []*column
}

func (f *Format) textOf(t *change.Table) *tableText {
	x, _ := t.Text(f, f.makeText).(*tableText)
	return x
}

func (f *Format) makeText(t *change.Table) any {
	x := &tableText{}
	var ok bool
	if x.Schemas, ok = f.NewSchemas(t, space); !ok {
		return x
	}
	x.Record = confluent.RecordValue
	if f.Shape == confluent.ShapeEnvelope {
		x.Record = confluent.RecordEnvelope
	}
	return x
}

// Prepare implements change.Preparer: it registers the schemas of the table.
func (f *Format) Prepare(ctx context.Context, t *change.Table) error {
	x := f.textOf(t)
	if len(t.Columns) == 0 || x.plan.Load() != nil { // a table without columns stands for rows that nobody may see
		return nil
	}
	if x.Err != nil {
		return fmt.Errorf("the schema of table %s: %w", t.FullName(), x.Err)
	}
	select {
	case f.turn <- struct{}{}:
		defer func() { <-f.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	p := &plan{columns: f.columnsOf(t, false), key: f.columnsOf(t, true)}
	var err error
	if p.valueHead, err = f.register(ctx, f.SubjectOf(x.Schemas, confluent.PartValue, x.Record), x.Record, func(newest *file) *file {
		return f.valueFile(x, p.columns, newest)
	}); err != nil {
		return fmt.Errorf("registering the schema of table %s: %w", t.FullName(), err)
	}
	if len(t.Key) > 0 {
		if p.keyHead, err = f.register(ctx, f.SubjectOf(x.Schemas, confluent.PartKey, confluent.RecordKey), confluent.RecordKey, func(newest *file) *file {
			return keyFile(x, p.key, newest)
		}); err != nil {
			return fmt.Errorf("registering the schema of the key of table %s: %w", t.FullName(), err)
		}
	}
	x.plan.Store(p)
	return nil
}

// register registers what make makes of the newest schema of a subject, unless that schema has it all. It returns what is in front of the
// bytes of such a message.
func (f *Format) register(ctx context.Context, subject, record string, make func(newest *file) *file) ([]byte, error) {
	id, text, err := f.Subjects.Latest(ctx, subject)
	if err != nil {
		return nil, err
	}
	newest := &file{}
	if text != "" {
		if newest, err = parseFile(text); err != nil {
			return nil, fmt.Errorf("subject %s: %w", subject, err)
		}
	}
	want := make(newest)
	if text != "" && newest.covers(want) {
		return confluent.Head(id, indexes(newest.index(record))), nil
	}
	want.merge(newest)
	if id, err = f.Subjects.ID(ctx, subject, want.text()); err != nil {
		return nil, err
	}
	return confluent.Head(id, indexes(want.index(record))), nil
}
