package envelope

import (
	"net/url"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
)

// CloudEvents is the format of CloudEvents 1.0. Its address is the key of what it keeps at tables.
type CloudEvents struct {
	// Binary: the payload is the data, and the attributes are headers, as the Kafka protocol binding has them. Else the payload is an object
	// with the attributes and the data.
	Binary bool
	// Row: the data is the row alone, after the change, or before a delete. Else it is the native envelope.
	Row bool
}

var _ change.Format = (*CloudEvents)(nil)

// NewEncoder implements change.Format.
func (f *CloudEvents) NewEncoder() change.Encoder {
	return &cloudEncoder{format: f, data: Payloads{Row: f.Row}}
}

// The headers of the Kafka protocol binding.
const (
	headerContentType = "content-type"
	headerPrefix      = "ce_"
	typeStructured    = "application/cloudevents+json; charset=UTF-8"
	typeData          = "application/json"
	// typePrefix is the first part of the attribute type; the operation follows.
	typePrefix = "io.deltaforge.change."
)

// cloudText is what the format says about a table.
type cloudText struct{ source, subject []byte }

func (f *CloudEvents) textOf(t *change.Table) *cloudText {
	x, _ := t.Text(f, func(t *change.Table) any {
		source := url.URL{Path: "/deltaforge/" + t.Source.Connector + "/" + t.Source.Name}
		return &cloudText{source: []byte(source.EscapedPath()), subject: []byte(t.FullName())}
	}).(*cloudText)
	return x
}

type cloudEncoder struct {
	format *CloudEvents
	data   Payloads
	maker  change.Maker
	parts  change.Parts

	// What is the same for neighbours.
	table  *change.Table
	origin *change.Origin
	text   *cloudText
	time   []byte
	op     change.Op
	typ    []byte // what op is in the attribute type

	slab []change.Header
}

var _ change.DirectEncoder = (*cloudEncoder)(nil)

// Direct implements change.DirectEncoder.
func (e *cloudEncoder) Direct(w change.RowWriter) { e.data.Direct(w) }

// AppendMessages implements change.Encoder.
func (e *cloudEncoder) AppendMessages(dst service.MessageBatch, buf []byte, ev *change.Event) (service.MessageBatch, []byte) {
	if e.table != ev.Table || e.origin != ev.Origin {
		e.table, e.origin, e.text = ev.Table, ev.Origin, e.format.textOf(ev.Table)
		e.time = ev.Tx.CommitTime.UTC().AppendFormat(nil, time.RFC3339Nano)
	}
	if e.op != ev.Op {
		e.op, e.typ = ev.Op, append([]byte(typePrefix), ev.Op.Name()...)
	}
	one := e.parts.Next(ev, 0) // the headers are the message's, and not the change's
	start := len(buf)
	if e.format.Binary {
		buf = ev.AppendID(buf)
		id := buf[start:len(buf):len(buf)]
		start = len(buf)
		buf = e.data.Append(buf, ev)
		one.Headers = e.headers(ev, id)
	} else {
		buf = e.appendStructured(buf, ev)
		one.Headers = structuredHeaders
	}
	end := len(buf)
	buf = e.data.AppendKey(buf, ev)
	return append(dst, e.maker.Message(one, buf[start:end:end], buf[end:len(buf):len(buf)])), buf
}

//nolint:gochecknoglobals // constants
var (
	structuredHeaders = []change.Header{{Name: headerContentType, Value: []byte(typeStructured)}}
	dataHeaders       = [2]change.Header{{Name: headerContentType, Value: []byte(typeData)}, {Name: headerPrefix + "specversion", Value: []byte("1.0")}}
)

// headers returns the attributes of an event in binary mode.
func (e *cloudEncoder) headers(ev *change.Event, id []byte) []change.Header {
	const count = 7
	if len(e.slab) < count {
		e.slab = make([]change.Header, 32*count)
	}
	h := e.slab[:0:count]
	e.slab = e.slab[count:]
	return append(h,
		dataHeaders[0], dataHeaders[1],
		change.Header{Name: headerPrefix + "id", Value: id},
		change.Header{Name: headerPrefix + "source", Value: e.text.source},
		change.Header{Name: headerPrefix + "type", Value: e.typ},
		change.Header{Name: headerPrefix + "subject", Value: e.text.subject},
		change.Header{Name: headerPrefix + "time", Value: e.time},
	)
}

func (e *cloudEncoder) appendStructured(dst []byte, ev *change.Event) []byte {
	dst = append(dst, `{"specversion":"1.0","id":"`...)
	start := len(dst)
	dst = ev.AppendID(dst)
	id := string(dst[start:])
	dst = append(appendEscaped(dst[:start], id), `","source":`...)
	dst = AppendString(dst, e.text.source)
	dst = append(append(append(dst, `,"type":"`...), e.typ...), `","subject":`...)
	dst = append(AppendString(dst, e.text.subject), `,"time":"`...)
	dst = append(append(dst, e.time...), `","datacontenttype":"`+typeData+`","data":`...)
	return append(e.data.Append(dst, ev), '}')
}
