package snapshot

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"time"

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
}

// add makes the message of a row. It is an Add.
func (r *rows) add(t *change.Table, values []change.Value, inexact error) {
	res := r.res
	if res.table == nil && r.failed == nil {
		if r.failed = r.prepare(t); r.failed == nil {
			r.begin(t)
		}
	}
	if r.failed != nil {
		return
	}
	if len(r.events) == 0 {
		r.events = make([]change.Event, min(max(len(res.messages), firstEvents), mostEvents))
	}
	ev := &r.events[0]
	r.events = r.events[1:]
	ev.Table, ev.Op, ev.Origin, ev.Images = t, change.Read, r.origin, change.ImagesOf(nil, values)
	if cap(r.idents)-len(r.idents) < identRoom {
		r.idents = make([]byte, 0, pieceIdents)
	}
	start := len(r.idents)
	r.idents = appendIdent(r.idents, ev, r.before+len(res.messages))
	ev.Ident = r.idents[start:len(r.idents):len(r.idents)]
	if cap(r.buf)-len(r.buf) < r.most { // a new one, and not a copy of what there is
		r.buf = make([]byte, 0, max(piecePayload, 16*r.most))
	}
	at, n := len(r.buf), len(res.messages)
	res.messages, r.buf = r.encoder.AppendMessages(res.messages, r.buf, ev)
	res.sizes = append(res.sizes, len(ev.Payload()))
	r.most = max(r.most, len(r.buf)-at)
	if inexact != nil {
		change.SetErrors(res.messages[n:], inexact)
	}
}

// result returns the chunk.
func (r *rows) result(end End) *result {
	r.res.next, r.res.held = end.Next, end.Held
	return r.res
}

// appendIdent appends what identifies a row in the event ids of its load: the values of its key; n for a row without one.
func appendIdent(dst []byte, ev *change.Event, n int) []byte {
	if len(ev.Table.Key) == 0 {
		return strconv.AppendInt(dst, int64(n), 10)
	}
	for i, c := range ev.Table.Key {
		if i > 0 {
			dst = append(dst, ',')
		}
		v := ev.After()[c]
		switch v.Kind() {
		case change.Int:
			dst = strconv.AppendInt(dst, v.Int(), 10)
		case change.Uint:
			dst = strconv.AppendUint(dst, v.Uint(), 10)
		default:
			dst = appendIdentText(dst, v)
		}
	}
	return dst
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
