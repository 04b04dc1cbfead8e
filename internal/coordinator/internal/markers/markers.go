// Package markers puts events into a stream that say where transactions begin and end, and how many events they have.
package markers

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
)

// Markers follows a stream. It is used by one goroutine. A transaction that was delivered in part before is read anew from its start, with
// silent events, so that it is counted whole.
type Markers struct {
	tx     *change.Tx    // that is open; nil: none
	last   *change.Event // of it
	total  int64
	counts []count // by table, in the order of their first events
	table  *change.Table
}

type count struct {
	table string
	n     int64
}

// New returns one that has seen nothing.
func New() *Markers { return &Markers{} }

// Begins reports whether a message is the begin of a transaction.
func Begins(m *service.Message) bool {
	ev, ok := change.Own(m)
	return ok && ev.Marker == change.Begin
}

// Append appends the messages of a segment with the markers that belong among them. Ends says that a transaction ends with the segment.
func (k *Markers) Append(ctx context.Context, dst, messages service.MessageBatch, ends bool) (service.MessageBatch, error) {
	for _, m := range messages {
		ev, ok := change.Own(m)
		if ok && counts(ev) {
			whole := ev.Whole()
			if k.tx == nil || k.tx != ev.Tx && k.tx.Position != ev.Tx.Position {
				k.tx, k.total, k.counts = ev.Tx, 0, nil
				if !whole.Silent {
					var err error
					if dst, err = k.mark(ctx, dst, whole, change.Begin); err != nil {
						return dst, err
					}
				}
			}
			k.last = whole
			if !ev.Tombstone && (!ev.Silent || whole.Silent) { // what the format leaves out does not count
				k.count(ev.Table.FullName())
			}
		}
		dst = append(dst, m)
	}
	if !ends || k.tx == nil {
		return dst, nil
	}
	dst, err := k.mark(ctx, dst, k.last, change.End)
	k.tx, k.last = nil, nil
	return dst, err
}

// counts reports whether an event is a part of a transaction: changes of shapes are not, nor are messages outside of transactions.
func counts(ev *change.Event) bool {
	return ev.Op != change.Schema && (ev.Op != change.Message || ev.Tx.XID != 0)
}

func (k *Markers) count(table string) {
	k.total++
	for i := range k.counts {
		if k.counts[i].table == table {
			k.counts[i].n++
			return
		}
	}
	k.counts = append(k.counts, count{table, 1})
}

// mark appends a marker beside an event.
func (k *Markers) mark(ctx context.Context, dst service.MessageBatch, at *change.Event, marker change.Marker) (service.MessageBatch, error) {
	if k.table == nil || k.table.Source != at.Table.Source {
		k.table = change.TransactionTable(at.Table)
		if err := change.Prepare(ctx, k.table); err != nil {
			return dst, fmt.Errorf("the markers of transactions: %w", err)
		}
	}
	row := make([]change.Value, len(k.table.Columns))
	id := at.Tx.ID
	if id == "" {
		id = at.Tx.Position
	}
	row[change.TransactionID] = change.TextValue([]byte(id))
	row[change.TransactionStatus] = change.TextValue([]byte("BEGIN"))
	row[change.TransactionCount], row[change.TransactionTables] = change.NullValue(), change.NullValue()
	row[change.TransactionTime] = change.IntValue(at.Tx.CommitTime.UnixMilli())
	ev := &change.Event{
		Op: change.Message, Marker: marker, Table: k.table, Origin: at.Origin, Index: at.Index, Ident: []byte("begin"), Images: change.ImagesOf(nil, row), Pos: at.Pos, Row: at.Row, LSN: at.LSN,
	}
	if marker == change.End {
		ev.Ident, ev.Sub = []byte("end"), at.Sub+1
		row[change.TransactionStatus] = change.TextValue([]byte("END"))
		row[change.TransactionCount] = change.IntValue(k.total)
		row[change.TransactionTables] = change.JSONValue(k.tables())
	}
	// An encoder is not used any more once its messages are handed on.
	dst, _ = envelope.NewEncoder(k.table.Source).AppendMessages(dst, nil, ev)
	return dst, nil
}

// tables are the counts by table, as Debezium writes them.
func (k *Markers) tables() []byte {
	b := []byte{'['}
	for i, c := range k.counts {
		if i > 0 {
			b = append(b, ',')
		}
		b = envelope.AppendString(append(b, `{"data_collection":`...), c.table)
		b = strconv.AppendInt(append(b, `,"event_count":`...), c.n, 10)
		b = append(b, '}')
	}
	return append(b, ']')
}
