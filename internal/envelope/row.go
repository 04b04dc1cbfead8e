package envelope

import (
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
)

// DeleteRows is what the row format makes of deletes.
type DeleteRows string

// What the row format can make of deletes: the row that was there, null, or no message.
const (
	DeleteKeep DeleteRows = "keep"
	DeleteNull DeleteRows = "null"
	DeleteDrop DeleteRows = "drop"
)

// Row is the format of a row alone: the columns, and nothing around them.
type Row struct{ Deletes DeleteRows }

var (
	_ change.Format        = Row{}
	_ change.DirectEncoder = (*rowEncoder)(nil)
)

// NewEncoder implements change.Format.
func (r Row) NewEncoder() change.Encoder { return &rowEncoder{deletes: r.Deletes} }

type rowEncoder struct {
	maker   change.Maker
	parts   change.Parts
	deletes DeleteRows
	table   *change.Table
	names   *tableText
	rows    rowsText
}

// Direct implements change.DirectEncoder.
func (e *rowEncoder) Direct(w change.RowWriter) { e.rows.writer = w }

// AppendMessages implements change.Encoder.
func (e *rowEncoder) AppendMessages(dst service.MessageBatch, buf []byte, ev *change.Event) (service.MessageBatch, []byte) {
	if e.table != ev.Table {
		e.table, e.names = ev.Table, textOf(ev.Table)
	}
	start := len(buf)
	switch {
	case ev.Change != nil:
		buf = appendSchemaChange(buf, ev.Change)
	case ev.Op != change.Delete:
		buf = e.rows.appendAfter(buf, ev, e.names) // null for a truncate
	case e.deletes == DeleteNull:
		buf = append(buf, "null"...)
	case e.deletes == DeleteDrop:
		ev = e.parts.Next(ev, 0)
		ev.Silent = true
	default:
		buf = e.rows.appendBefore(buf, ev, e.names)
	}
	end := len(buf)
	buf = e.rows.appendKey(buf, ev, e.names)
	return append(dst, e.maker.Message(ev, buf[start:end:end], buf[end:len(buf):len(buf)])), buf
}
