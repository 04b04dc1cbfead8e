package snapshot

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
)

// rows makes messages of the rows of a chunk, each as it comes: what it was read into is in the processor's cache, and the database
// goes on meanwhile.
type rows struct {
	res     *result
	before  int                       // rows of the same view that were read before
	prepare func(*change.Table) error // waits until messages of a table can be made
	failed  error                     // it did not, and rows count for nothing
	origin  *change.Origin
	encoder change.Encoder

	// What is left of the memory for events, their names, and payloads. It is taken in pieces that the allocator has at hand.
	events []change.Event
	idents []byte
	buf    []byte
	most   int // that a row has taken of buf
	spare  *change.Event

	// Rows that are written as they were read, see Raw.
	short  change.DirectEncoder // the encoder, if it can do that
	writer written
	form   Form
	decode func(row []byte) (values []change.Value, inexact, err error)
	piece  *piece
	images *change.ImageSet // of the piece
}

// The sizes of the pieces. The first ones are small, since most tables are.
const (
	firstEvents  = 8
	mostEvents   = 64
	pieceIdents  = 4 << 10
	piecePayload = 28 << 10
	// identRoom is more than most names of rows take.
	identRoom = 64
)

// newRows returns what takes the rows of a task; before is how many rows of the same view were read before.
func newRows(t task, before int) *rows {
	return &rows{res: &result{reading: t.reading, part: t.part, again: t.again}, before: before, most: 1 << 10}
}

// begin notes the table of the first row.
func (r *rows) begin(t *change.Table) {
	res, now := r.res, time.Now().UTC()
	place := "snapshot-" + res.reading.id + ":" + res.reading.table + ":"
	if res.part >= 0 {
		place += strconv.Itoa(res.part)
	} else {
		place += "again" + strconv.FormatUint(res.again[0].N, 10)
	}
	if len(t.Key) == 0 { // such rows have no names: each time they are read they get new ones
		place += "-" + strconv.FormatInt(now.UnixNano(), 36)
	}
	res.table = t
	r.origin = &change.Origin{Tx: &change.Tx{Position: place, CommitTime: now}, ReadAt: now, Snapshot: change.SnapshotTrue}
	r.encoder = envelope.NewEncoder(t.Source)
	r.short, _ = r.encoder.(change.DirectEncoder)
}

// ready reports whether the message of a row can be made. The first row waits until it can.
func (r *rows) ready(t *change.Table) bool {
	if r.res.table == nil && r.failed == nil {
		if r.failed = r.prepare(t); r.failed == nil {
			r.begin(t)
		}
	}
	return r.failed == nil
}

// event returns the event of the next row.
func (r *rows) event(t *change.Table) *change.Event {
	ev := r.spare
	if r.spare = nil; ev == nil {
		if len(r.events) == 0 {
			r.events = make([]change.Event, min(max(len(r.res.messages), firstEvents), mostEvents))
		}
		ev, r.events = &r.events[0], r.events[1:]
	}
	ev.Table, ev.Op, ev.Origin = t, change.Read, r.origin
	return ev
}

// room returns a buffer with room for the payload of a row.
func (r *rows) room() []byte {
	if cap(r.buf)-len(r.buf) < r.most { // a new one, and not a copy of what there is
		r.buf = make([]byte, 0, max(piecePayload, 16*r.most))
	}
	return r.buf
}

// took notes what the encoder has made of an event.
func (r *rows) took(messages service.MessageBatch, buf []byte, ev *change.Event) {
	r.most = max(r.most, len(buf)-len(r.buf))
	r.res.messages, r.buf = messages, buf
	r.res.sizes = append(r.res.sizes, len(ev.Payload()))
}

// add makes the message of a row of which there are values. It is an Add.
func (r *rows) add(t *change.Table, values []change.Value, inexact error) {
	if !r.ready(t) {
		return
	}
	ev := r.event(t)
	ev.Images = change.ImagesOf(nil, values)
	_ = r.identify(ev, func(column int) (change.Value, error) { return values[column], nil }) // they are there
	n := len(r.res.messages)
	messages, buf := r.encoder.AppendMessages(r.res.messages, r.room(), ev)
	r.took(messages, buf, ev)
	if inexact != nil {
		change.SetErrors(messages[n:], inexact)
	}
}

// result returns the chunk.
func (r *rows) result(end End) *result {
	r.res.next, r.res.held = end.Next, end.Held
	return r.res
}

// identify sets what identifies the row of an event in the event ids of its load: the values of its key; its number for a row without one.
func (r *rows) identify(ev *change.Event, value func(column int) (change.Value, error)) error {
	if cap(r.idents)-len(r.idents) < identRoom {
		r.idents = make([]byte, 0, pieceIdents)
	}
	start := len(r.idents)
	out, err := appendIdent(r.idents, ev.Table, r.before+len(r.res.messages), value)
	if err != nil {
		return err
	}
	r.idents = out
	ev.Ident = out[start:len(out):len(out)]
	return nil
}

func appendIdent(dst []byte, t *change.Table, n int, value func(column int) (change.Value, error)) ([]byte, error) {
	if len(t.Key) == 0 {
		return strconv.AppendInt(dst, int64(n), 10), nil
	}
	for i, c := range t.Key {
		if i > 0 {
			dst = append(dst, ',')
		}
		v, err := value(c)
		if err != nil {
			return dst, err
		}
		switch v.Kind() {
		case change.Int:
			dst = strconv.AppendInt(dst, v.Int(), 10)
		case change.Uint:
			dst = strconv.AppendUint(dst, v.Uint(), 10)
		default:
			dst = appendIdentText(dst, v)
		}
	}
	return dst, nil
}

// appendIdentText appends a text as it is if it is short and plain, and has no look of a digest; else its digest.
func appendIdentText(dst []byte, v change.Value) []byte {
	text := v.Bytes()
	if text == nil {
		text = envelope.AppendValue(nil, v)
	}
	if len(text) <= 40 && v.Kind() != change.Bytes && len(text) > 0 && !slices.ContainsFunc(text, func(b byte) bool { return !plain(b) }) {
		return append(dst, text...)
	}
	sum := sha256.Sum256(append([]byte{byte(v.Kind())}, text...))
	return append(append(dst, '_'), hex.EncodeToString(sum[:16])...)
}

func plain(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b == '-' || b == '.'
}
