package row

import (
	"encoding/binary"
	"math"
	"strconv"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
)

// Most rows become messages without values that stay: they are written into their payloads straight from the log, or, where the format
// cannot do that, by way of values that are overwritten by those of the next row. Values that stay are made of them when somebody asks.
// Whatever is not as usual goes the long way, through values that stay: images that lack columns, a value that cannot be represented, rows that
// are malformed or make more than one message.

// shortWay makes messages of rows without values that stay.
type shortWay interface {
	// messages appends the message of an event, which is the first row of the images. It returns what follows that row, or false: then
	// nothing was made.
	messages(dst service.MessageBatch, buf, images []byte, ev *change.Event) (_ service.MessageBatch, _, rest []byte, ok bool)
}

// findShortWay makes rows go the short way, if the event lets them.
func (d *rowDecoder) findShortWay() {
	s := d.seg
	whole := (s.Event.Before == nil || s.Event.NBefore == s.Event.Columns) && (s.Event.After == nil || s.Event.NAfter == s.Event.Columns)
	if !whole || s.Event.Partial || s.Event.Blank() || s.Layout.RowEnd > 0 {
		return
	}
	if encoder, ok := d.encoder.(change.DirectEncoder); ok {
		d.short = &direct{seg: s, encoder: encoder}
	} else if d.op != change.Delete { // which makes two messages in most of these formats
		d.short = newBrief(s, d.encoder)
	}
}

// shortWay appends the message of the next row, or nothing: then it goes the long way.
func (d *rowDecoder) shortWay(dst service.MessageBatch, ev *change.Event) (service.MessageBatch, bool) {
	lazy := d.rows.At(d.at)
	ev.Images = lazy
	made, buf, rest, ok := d.short.messages(dst, d.payload(), d.rest, ev)
	if !ok || len(rest) == len(d.rest) {
		return dst, false
	}
	ev.Images = lazy
	d.rest, d.buf = rest, buf
	return made, true
}

// brief makes messages of values that are overwritten by those of the next row.
type brief struct {
	*change.Brief
	decoder rowDecoder
	values  []change.Value
}

func newBrief(s *Segment, encoder change.Encoder) *brief {
	return &brief{
		Brief: change.NewBrief(encoder), decoder: rowDecoder{seg: s, missing: s.missing()},
		values: make([]change.Value, s.images()*len(s.Layout.Columns)),
	}
}

// messages implements shortWay.
func (b *brief) messages(dst service.MessageBatch, buf, images []byte, ev *change.Event) (_ service.MessageBatch, _, rest []byte, ok bool) {
	d := &b.decoder
	d.rest, d.values, d.arena = images, b.values, d.arena[:0]
	if err := d.row(); err != nil || d.err != nil {
		return dst, buf, nil, false
	}
	dst, buf, ok = b.AppendMessage(dst, buf, ev, d.pair)
	return dst, buf, d.rest, ok
}

// lazy returns the images of the next rows, as values when somebody asks.
func (s *Segment) lazy(images []byte, n int) *change.ImageSet {
	return change.LazyImages(func() []change.Pair {
		d := &rowDecoder{seg: s, rest: images, images: s.images(), size: len(images) / n, chunk: n}
		pairs := make([]change.Pair, n)
		for i := range pairs {
			if err := d.row(); err != nil {
				break // there are no messages of it and what follows
			}
			pairs[i] = d.pair
		}
		return pairs
	})
}

// direct writes row images. It is a change.RowWriter.
type direct struct {
	seg           *Segment
	encoder       change.DirectEncoder
	rest          []byte // the image that is next
	before, after bool   // that image, and one after it, are there to be read
	failed        bool
	unasked       []byte // images that nobody asks for
	scratch       []byte // texts of values
}

// messages implements shortWay.
func (w *direct) messages(dst service.MessageBatch, buf, images []byte, ev *change.Event) (_ service.MessageBatch, _, rest []byte, ok bool) {
	w.begin(images)
	w.encoder.Direct(w)
	made, buf := w.encoder.AppendMessages(dst, buf, ev)
	w.encoder.Direct(nil)
	rest, ok = w.end()
	return made, buf, rest, ok
}

func (w *direct) begin(images []byte) {
	w.rest, w.before, w.after, w.failed = images, w.seg.Event.Before != nil, w.seg.Event.After != nil, false
}

// end returns what follows the row.
func (w *direct) end() (rest []byte, ok bool) {
	w.skip(w.before)
	w.skip(w.after)
	return w.rest, !w.failed
}

// skip goes to the image after the next one. A value that cannot be represented counts in an image that nobody asks for, too.
func (w *direct) skip(present bool) {
	if present && !w.failed {
		out, ok := w.image(w.unasked[:0], nil, nil)
		w.unasked, w.failed = out, !ok
	}
}

// AppendRow implements change.RowWriter.
func (w *direct) AppendRow(dst []byte, after bool, names [][]byte, ends []int32) ([]byte, bool) {
	if after {
		w.skip(w.before)
		w.before = false
	}
	if w.failed {
		return dst, false
	}
	if after && !w.after || !after && !w.before {
		return append(dst, "null"...), true
	}
	if after {
		w.after = false
	} else {
		w.before = false
	}
	out, ok := w.image(dst, names, ends)
	w.failed = !ok
	return out, ok
}

// image appends the object of the next image; without names, only the values, one after the other.
func (w *direct) image(dst []byte, names [][]byte, ends []int32) ([]byte, bool) {
	img, err := binlog.OpenImage(w.rest, nil, w.seg.Event.Columns, false)
	if err != nil {
		return dst, false
	}
	columns, widths, rest, start := w.seg.Layout.Columns, w.seg.TableMap.Widths, img.Values, len(dst)
	visible := len(w.seg.Layout.Table.Columns)
	for i := range widths {
		null := binlog.IsSet(img.Nulls, i)
		value := rest[:0]
		if !null {
			n, err := widths[i].Size(rest)
			if err != nil {
				return dst, false
			}
			value, rest = rest[:n:n], rest[n:]
		}
		if names != nil && i < visible {
			dst = append(dst, names[i]...)
		}
		end := len(dst)
		if null {
			dst = append(dst, "null"...)
		} else if dst, err = w.append(dst, &columns[i], value); err != nil {
			return dst, false
		}
		if i >= visible {
			dst = dst[:end]
		} else if names != nil {
			ends[i] = int32(len(dst) - start) //nolint:gosec // an event has less than 2 GB
		}
	}
	w.rest = rest
	if len(dst) == start {
		return append(dst, "{}"...), true
	}
	dst[start] = '{' // in place of the comma before the first column
	return append(dst, '}'), true
}

// append appends the JSON of a value: what envelope.AppendValue makes of what decode does. It says nothing about what is wrong.
func (w *direct) append(dst []byte, c *Column, p []byte) (_ []byte, err error) {
	switch c.Type {
	case mysql.MYSQL_TYPE_TINY, mysql.MYSQL_TYPE_SHORT, mysql.MYSQL_TYPE_INT24, mysql.MYSQL_TYPE_LONG, mysql.MYSQL_TYPE_LONGLONG:
		if c.values.integer == integerNumber {
			if n := binlog.UintLE(p); c.Unsigned {
				return strconv.AppendUint(dst, n, 10), nil
			} else {
				return strconv.AppendInt(dst, signExtend(n, len(p)), 10), nil
			}
		}
	case mysql.MYSQL_TYPE_FLOAT:
		return envelope.AppendFloat(dst, float64(math.Float32frombits(binary.LittleEndian.Uint32(p))), 32), nil
	case mysql.MYSQL_TYPE_DOUBLE:
		return envelope.AppendFloat(dst, math.Float64frombits(binary.LittleEndian.Uint64(p)), 64), nil
	case mysql.MYSQL_TYPE_NEWDECIMAL:
		dst, err = appendDecimal(append(dst, '"'), p, int(c.Meta>>8), int(c.Meta&0xff))
		return append(dst, '"'), err
	case mysql.MYSQL_TYPE_DATE, mysql.MYSQL_TYPE_DATETIME2, mysql.MYSQL_TYPE_TIMESTAMP2:
		if c.values.zeroDate == zeroAsText {
			return c.appendDate(dst, p)
		}
	case mysql.MYSQL_TYPE_TIME2:
		dst, err = appendTime2(append(dst, '"'), p, int(c.Meta))
		return append(dst, '"'), err
	case mysql.MYSQL_TYPE_STRING, mysql.MYSQL_TYPE_VARCHAR, mysql.MYSQL_TYPE_VAR_STRING:
		if c.Text != nil && c.Text.ASCII {
			n := 1
			if c.Meta > 255 {
				n = 2
			}
			if out, ok := envelope.AppendASCII(dst, p[n:]); ok {
				return out, nil
			}
		}
	case mysql.MYSQL_TYPE_BLOB:
		if c.Text != nil && c.Text.ASCII {
			if out, ok := envelope.AppendASCII(dst, p[c.Meta:]); ok {
				return out, nil
			}
		}
	case mysql.MYSQL_TYPE_JSON:
		if p = p[c.Meta:]; len(p) > 0 {
			start := len(dst)
			dst, err = appendBinaryJSON(dst, p)
			envelope.OneLine(dst[start:])
			return dst, err
		}
		return append(dst, "null"...), nil
	}
	v, scratch, err := c.decode(p, w.scratch[:0])
	w.scratch = scratch
	if err != nil {
		return dst, err
	}
	return envelope.AppendValue(dst, v), nil
}

// appendDate appends the JSON of a date that is delivered whatever it is.
func (c *Column) appendDate(dst, p []byte) (_ []byte, err error) {
	dst = append(dst, '"')
	switch c.Type {
	case mysql.MYSQL_TYPE_DATE:
		dst, err = appendDate3(dst, p)
	case mysql.MYSQL_TYPE_DATETIME2:
		dst, err = appendDateTime2(dst, p, int(c.Meta))
	default:
		dst, err = appendTimestamp(dst, binlog.UintBE(p[:4]), fractionMicros(p[4:]), int(c.Meta))
	}
	return append(dst, '"'), err
}
