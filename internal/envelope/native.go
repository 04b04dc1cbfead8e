package envelope

import (
	"strconv"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
)

// Native is the format of our own envelope.
type Native struct{}

var (
	_ change.Format        = Native{}
	_ change.DirectEncoder = (*nativeEncoder)(nil)
)

// NewEncoder implements change.Format.
func (Native) NewEncoder() change.Encoder { return &nativeEncoder{} }

// nativeEncoder writes what neighbours have in common (table, transaction, place) once and copies it from then on.
type nativeEncoder struct {
	maker change.Maker

	// What text was made for.
	table  *change.Table
	origin *change.Origin
	op     change.Op

	names *tableText
	text  []byte
	rows  rowsText
	// source, middle and id are parts of text: from the images to the place of the row, from there to its index in the
	// transaction, and from there to its index in the event id.
	source, middle, id []byte
}

// Direct implements change.DirectEncoder.
func (e *nativeEncoder) Direct(w change.RowWriter) { e.rows.writer = w }

// AppendMessages implements change.Encoder.
func (e *nativeEncoder) AppendMessages(dst service.MessageBatch, buf []byte, ev *change.Event) (service.MessageBatch, []byte) {
	e.prepare(ev)
	start := len(buf)
	buf = e.appendNative(buf, ev)
	end := len(buf)
	buf = e.rows.appendKey(buf, ev, e.names)
	return append(dst, e.maker.Message(ev, buf[start:end:end], buf[end:len(buf):len(buf)])), buf
}

// tableText is what an envelope says about a table, the same in each.
type tableText struct {
	names  [][]byte // `,"name":` of each column
	source []byte   // `,"source":{` up to the commit time
	table  []byte   // from after the snapshot up to the place
	end    []byte   // from after the event id to the end
}

func textOf(t *change.Table) *tableText {
	x, _ := t.Text(Native{}, makeTableText).(*tableText)
	return x
}

func makeTableText(t *change.Table) any {
	x := &tableText{names: make([][]byte, len(t.Columns))}
	size := 0
	for _, c := range t.Columns {
		size += len(c.Name) + 4
	}
	all := make([]byte, 0, size+size/8)
	for i, c := range t.Columns {
		start := len(all)
		all = append(AppendString(append(all, ','), c.Name), ':')
		x.names[i] = all[start:len(all):len(all)]
	}
	x.source = AppendString(append(x.source, `,"source":{"version":`...), t.Source.Version)
	x.source = AppendString(append(x.source, `,"connector":`...), t.Source.Connector)
	x.source = AppendString(append(x.source, `,"name":`...), t.Source.Name)
	x.source = append(x.source, `,"ts_ms":`...)
	x.table = AppendString(append(x.table, `","db":`...), t.Database)
	if t.Schema != "" {
		x.table = AppendString(append(x.table, `,"schema":`...), t.Schema)
	}
	x.table = AppendString(append(x.table, `,"table":`...), t.Name)
	x.end = append(x.end, `","tenant_id":`...)
	if t.Source.Tenant == "" {
		x.end = append(x.end, "null"...)
	} else {
		x.end = AppendString(x.end, t.Source.Tenant)
	}
	x.end = append(x.end, `,"schema_version":"`...)
	x.end = append(append(x.end, t.Fingerprint()...), `"}`...)
	return x
}

// prepare writes the parts that the event has in common with its neighbours, unless they are written.
func (e *nativeEncoder) prepare(ev *change.Event) {
	if e.table == ev.Table && e.origin == ev.Origin && e.op == ev.Op {
		return
	}
	e.table, e.origin, e.op = ev.Table, ev.Origin, ev.Op
	e.names = textOf(ev.Table)
	b := e.appendSource(e.text[:0], ev)
	source := len(b)
	b = append(b, `},"op":"`...)
	b = append(b, byte(ev.Op))
	b = append(b, `","ts_ms":`...)
	b = strconv.AppendInt(b, ev.ReadAt.UnixMilli(), 10)
	b = append(b, `,"transaction":`...)
	if ev.Tx.ID == "" {
		b = append(b, "null"...)
	} else {
		b = AppendString(append(b, `{"id":`...), ev.Tx.ID)
		b = append(b, `,"total_order":`...)
	}
	middle := len(b)
	if ev.Tx.ID != "" {
		b = append(b, '}')
	}
	b = AppendString(append(b, `,"event_id":`...), ev.Tx.Position)
	b[len(b)-1] = ':' // over the closing quote; the index follows, as in change.Event.AppendID
	e.text, e.source, e.middle, e.id = b, b[:source], b[source:middle], b[middle:]
}

// appendSource appends the source up to the place of the row in the log.
func (e *nativeEncoder) appendSource(dst []byte, ev *change.Event) []byte {
	t := ev.Table
	dst = append(dst, e.names.source...)
	dst = strconv.AppendInt(dst, ev.Tx.CommitTime.UnixMilli(), 10)
	if us := ev.Tx.CommitTime.UnixMicro(); us%1000 != 0 {
		dst = append(dst, `,"ts_us":`...)
		dst = strconv.AppendInt(dst, us, 10)
	}
	dst = append(dst, `,"snapshot":"`...)
	if ev.Snapshot == "" {
		dst = append(dst, change.SnapshotFalse...)
	} else {
		dst = append(dst, ev.Snapshot...)
	}
	dst = append(dst, e.names.table...)
	if t.Schema != "" {
		dst = append(dst, `,"txId":`...)
		dst = strconv.AppendUint(dst, uint64(ev.Tx.XID), 10)
		return append(dst, `,"lsn":`...)
	}
	dst = append(dst, `,"server_id":`...)
	dst = strconv.AppendUint(dst, uint64(ev.Tx.ServerID), 10)
	dst = append(dst, `,"gtid":`...)
	if ev.Tx.GTID == "" {
		dst = append(dst, "null"...)
	} else {
		dst = AppendString(dst, ev.Tx.GTID)
	}
	dst = AppendString(append(dst, `,"file":`...), ev.File)
	return append(dst, `,"pos":`...)
}

// appendNative appends the envelope of an event that prepare was called for.
func (e *nativeEncoder) appendNative(dst []byte, ev *change.Event) []byte {
	dst = append(dst, `{"before":`...)
	dst = e.rows.appendBefore(dst, ev, e.names)
	dst = append(dst, `,"after":`...)
	if ev.Change != nil {
		dst = appendSchemaChange(dst, ev.Change)
	} else {
		dst = e.rows.appendAfter(dst, ev, e.names)
	}
	dst = append(dst, e.source...)
	if ev.Table.Schema != "" {
		dst = strconv.AppendUint(dst, ev.LSN, 10)
	} else {
		dst = strconv.AppendUint(dst, ev.Pos, 10)
		dst = append(dst, `,"row":`...)
		dst = strconv.AppendInt(dst, int64(ev.Row), 10)
	}
	dst = append(dst, e.middle...)
	if ev.Tx.ID != "" {
		dst = strconv.AppendUint(dst, ev.Index, 10)
	}
	dst = append(dst, e.id...)
	dst = ev.AppendNumber(dst)
	return append(dst, e.names.end...)
}
