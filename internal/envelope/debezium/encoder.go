package debezium

import (
	"strconv"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
)

// The headers of the messages that a changed key makes.
const (
	headerNewKey = "__debezium.newkey"
	headerOldKey = "__debezium.oldkey"
)

// encoder writes what neighbours have in common once, and copies it from then on.
type encoder struct {
	format *Format
	maker  change.Maker
	parts  change.Parts

	// What text was made for.
	table  *change.Table
	origin *change.Origin

	names *tableText
	text  []byte
	// source, middle and times are parts of text: from the images to the sequence, from there to the place of the row, and what follows op.
	source, middle, times []byte

	scratch []byte
	err     error // the first value of the event that has no form
}

// tableText is what the format says about a table, the same in each message.
type tableText struct {
	columns  []*column
	source   []byte // `,"source":{` up to the commit time
	place    []byte // from after the snapshot up to the times in finer units
	table    []byte // from there up to the place in the log
	postgres bool

	// Around a payload and a key, with schemas; else empty.
	valueHead, keyHead, tail []byte
}

func (f *Format) textOf(t *change.Table) *tableText {
	x, _ := t.Text(f, f.makeText).(*tableText)
	return x
}

func (f *Format) makeText(t *change.Table) any {
	x := &tableText{postgres: t.Schema != "", columns: make([]*column, len(t.Columns))}
	for i := range t.Columns {
		x.columns[i] = f.column(x.postgres, &t.Columns[i])
	}
	x.source = envelope.AppendString(append(x.source, `,"source":{"version":`...), t.Source.Version)
	x.source = envelope.AppendString(append(x.source, `,"connector":`...), t.Source.Connector)
	x.source = envelope.AppendString(append(x.source, `,"name":`...), t.Source.Name)
	x.source = append(x.source, `,"ts_ms":`...)
	x.place = envelope.AppendString(append(x.place, `","db":`...), t.Database)
	x.place = append(x.place, `,"sequence":`...)
	if x.postgres {
		schema, name := t.Schema, t.Name
		if isMessages(t) {
			schema, name = "", ""
		}
		x.table = envelope.AppendString(append(x.table, `,"schema":`...), schema)
		x.table = envelope.AppendString(append(x.table, `,"table":`...), name)
	} else {
		x.table = envelope.AppendString(append(x.table, `,"table":`...), t.Name)
	}
	if f.Schemas {
		f.addSchemas(x, t)
	}
	return x
}

// isMessages reports the table that stands for logical messages, see change.MessageTable.
func isMessages(t *change.Table) bool { return t.Schema == "pg_logical" && t.Name == "message" }

// prepare writes the parts that the event has in common with its neighbours, unless they are written.
func (e *encoder) prepare(ev *change.Event) {
	if e.table == ev.Table && e.origin == ev.Origin {
		return
	}
	e.table, e.origin = ev.Table, ev.Origin
	e.names = e.format.textOf(ev.Table)
	b := append(e.text[:0], e.names.source...)
	b = strconv.AppendInt(b, ev.Tx.CommitTime.UnixMilli(), 10)
	b = append(b, `,"snapshot":"`...)
	if ev.Snapshot == "" {
		b = append(b, change.SnapshotFalse...)
	} else {
		b = append(b, ev.Snapshot...)
	}
	b = append(b, e.names.place...)
	source := len(b)
	b = e.appendMiddle(b, ev)
	middle := len(b)
	b = append(b, `,"ts_ms":`...)
	b = strconv.AppendInt(b, ev.ReadAt.UnixMilli(), 10)
	b = append(b, `,"ts_us":`...)
	b = strconv.AppendInt(b, ev.ReadAt.UnixMicro(), 10)
	b = append(b, `,"ts_ns":`...)
	b = strconv.AppendInt(b, ev.ReadAt.UnixNano(), 10)
	e.text, e.source, e.middle, e.times = b, b[:source], b[source:middle], b[middle:]
}

// appendMiddle appends the source from after the sequence up to the place of the row in the log.
func (e *encoder) appendMiddle(dst []byte, ev *change.Event) []byte {
	dst = strconv.AppendInt(append(dst, `,"ts_us":`...), ev.Tx.CommitTime.UnixMicro(), 10)
	dst = strconv.AppendInt(append(dst, `,"ts_ns":`...), ev.Tx.CommitTime.UnixNano(), 10)
	dst = append(dst, e.names.table...)
	if e.names.postgres {
		dst = appendOrNull(append(dst, `,"txId":`...), uint64(ev.Tx.XID))
		return append(dst, `,"lsn":`...)
	}
	dst = strconv.AppendUint(append(dst, `,"server_id":`...), uint64(ev.Tx.ServerID), 10)
	dst = append(dst, `,"gtid":`...)
	dst = appendTextOrNull(dst, ev.Tx.GTID)
	dst = envelope.AppendString(append(dst, `,"file":`...), ev.File)
	return append(dst, `,"pos":`...)
}

// AppendMessages implements change.Encoder.
func (e *encoder) AppendMessages(dst service.MessageBatch, buf []byte, ev *change.Event) (service.MessageBatch, []byte) {
	e.prepare(ev)
	first := len(dst)
	switch {
	case ev.Op == change.Update && ev.Table.KeyChanged(ev.Before(), ev.After()):
		dst, buf = e.moved(dst, buf, ev)
	case ev.Op == change.Delete && e.format.Tombstones && ev.Table.HasKey(ev.Before()):
		dst, buf = e.deleted(dst, buf, ev, nil)
	case ev.Op == change.Truncate && !e.format.Truncates:
		silent := e.parts.Next(ev, 0)
		silent.Silent = true
		dst = append(dst, e.maker.Message(silent, nil, nil))
	default:
		dst, buf = e.one(dst, buf, ev)
	}
	if e.err != nil {
		change.SetErrors(dst[first:], e.err)
		e.err = nil
	}
	return dst, buf
}

// one appends a message of an event, or of a part of one.
func (e *encoder) one(dst service.MessageBatch, buf []byte, ev *change.Event) (service.MessageBatch, []byte) {
	start := len(buf)
	switch {
	case ev.Marker != change.NoMarker:
		buf = e.appendMarker(buf, ev)
	case ev.Op == change.Message:
		buf = e.appendLogical(buf, ev)
	case ev.Op == change.Schema:
		buf = e.appendSchemaChange(buf, ev)
	default:
		buf = e.appendEnvelope(buf, ev)
	}
	end := len(buf)
	buf = e.appendKey(buf, ev)
	return append(dst, e.maker.Message(ev, buf[start:end:end], buf[end:len(buf):len(buf)])), buf
}

// moved appends the messages of an update that has changed the key: the row is gone under its old key, and there under its new one.
func (e *encoder) moved(dst service.MessageBatch, buf []byte, ev *change.Event) (service.MessageBatch, []byte) {
	start := len(buf)
	buf = e.appendRowKey(buf, ev.After())
	newKey := buf[start:len(buf):len(buf)]
	dst, buf = e.deleted(dst, buf, ev, []change.Header{{Name: headerNewKey, Value: newKey}})
	start = len(buf)
	buf = e.appendRowKey(buf, ev.Before())
	created := e.parts.Next(ev, 2)
	created.Op, created.Images = change.Create, change.ImagesOf(nil, ev.After())
	created.Headers = []change.Header{{Name: headerOldKey, Value: buf[start:len(buf):len(buf)]}}
	return e.one(dst, buf, created)
}

// deleted appends the messages of a row that is gone.
func (e *encoder) deleted(dst service.MessageBatch, buf []byte, ev *change.Event, headers []change.Header) (service.MessageBatch, []byte) {
	gone := e.parts.Next(ev, 0)
	gone.Op, gone.Images, gone.Headers, gone.Followed = change.Delete, change.ImagesOf(ev.Before(), nil), headers, e.format.Tombstones
	dst, buf = e.one(dst, buf, gone)
	if !e.format.Tombstones {
		return dst, buf
	}
	tombstone := e.parts.Next(ev, 1)
	tombstone.Op, tombstone.Images, tombstone.Headers, tombstone.Tombstone = change.Delete, gone.Images, headers, true
	return append(dst, e.maker.Message(tombstone, nil, gone.Key())), buf
}

// appendEnvelope appends the payload of a change of a row, or of a truncate.
func (e *encoder) appendEnvelope(dst []byte, ev *change.Event) []byte {
	dst = append(append(dst, e.names.valueHead...), `{"before":`...)
	dst = e.appendRow(dst, ev.Before(), true)
	dst = append(dst, `,"after":`...)
	dst = e.appendRow(dst, ev.After(), false)
	dst = e.appendSource(dst, ev)
	dst = append(dst, `,"transaction":null,"op":"`...)
	dst = append(dst, byte(ev.Op), '"')
	dst = append(append(dst, e.times...), '}')
	return append(dst, e.names.tail...)
}

// appendRow appends an image. What an image of the past does not have is null there, or as good as that.
func (e *encoder) appendRow(dst []byte, row []change.Value, before bool) []byte {
	if row == nil {
		return append(dst, null...)
	}
	start := len(dst)
	for i := range row {
		x := e.names.columns[i]
		dst = append(dst, x.name...)
		if before && !row[i].Known() && (row[i].Kind() == change.Absent || x.missing == nil) {
			dst = x.appendFiller(dst)
			continue
		}
		dst = e.appendValue(dst, x, row[i])
	}
	if len(dst) == start {
		return append(dst, "{}"...)
	}
	dst[start] = '{' // in place of the comma before the first column
	return append(dst, '}')
}

func (x *column) appendFiller(dst []byte) []byte {
	if x.nullable {
		return append(dst, null...)
	}
	return append(dst, x.filler...)
}

// appendSource appends the source, from the comma before it on.
func (e *encoder) appendSource(dst []byte, ev *change.Event) []byte {
	dst = append(dst, e.source...)
	if e.names.postgres && ev.LSN != 0 {
		dst = append(strconv.AppendUint(append(dst, `"[null,\"`...), ev.LSN, 10), `\"]"`...)
	} else {
		dst = append(dst, null...)
	}
	dst = append(dst, e.middle...)
	if e.names.postgres {
		dst = appendOrNull(dst, ev.LSN)
		return append(dst, `,"xmin":null,"origin":null,"origin_lsn":null}`...)
	}
	dst = strconv.AppendUint(dst, ev.Pos, 10)
	dst = strconv.AppendInt(append(dst, `,"row":`...), int64(ev.Row), 10)
	return append(dst, `,"thread":null,"query":null}`...)
}

func appendOrNull(dst []byte, n uint64) []byte {
	if n == 0 {
		return append(dst, null...)
	}
	return strconv.AppendUint(dst, n, 10)
}

// appendKey appends the key of an event: that of its newest image; nothing where there is none.
func (e *encoder) appendKey(dst []byte, ev *change.Event) []byte {
	switch {
	case ev.Marker != change.NoMarker:
		dst = e.appendTransactionID(append(append(dst, e.names.keyHead...), `{"id":`...), ev)
		return append(append(dst, '}'), e.names.tail...)
	case ev.Op == change.Schema:
		dst = e.appendNoSchema(dst)
		dst = append(envelope.AppendString(append(dst, `{"databaseName":`...), ev.Table.Database), '}')
		return append(dst, e.names.tail...)
	case ev.Table.HasKey(ev.After()):
		return e.appendRowKey(dst, ev.After())
	case ev.Table.HasKey(ev.Before()):
		return e.appendRowKey(dst, ev.Before())
	}
	return dst
}

func (e *encoder) appendRowKey(dst []byte, row []change.Value) []byte {
	dst = append(dst, e.names.keyHead...)
	start := len(dst)
	for _, c := range e.table.Key {
		x := e.names.columns[c]
		dst = e.appendValue(append(dst, x.name...), x, row[c])
	}
	dst[start] = '{' // in place of the comma before the first column
	return append(append(dst, '}'), e.names.tail...)
}

// appendLogical appends the payload of a logical message. Its table has the columns prefix and content.
func (e *encoder) appendLogical(dst []byte, ev *change.Event) []byte {
	dst = append(append(dst, e.names.valueHead...), `{"op":"m","ts_ms":`...)
	dst = strconv.AppendInt(dst, ev.ReadAt.UnixMilli(), 10)
	dst = e.appendSource(dst, ev)
	dst = append(dst, `,"transaction":null,"message":`...)
	dst = append(e.appendRow(dst, ev.After(), false), '}')
	return append(dst, e.names.tail...)
}

// appendSchemaChange appends the payload of a change of a table's shape.
func (e *encoder) appendSchemaChange(dst []byte, ev *change.Event) []byte {
	c := ev.Change
	dst = e.appendNoSchema(dst)
	start := len(dst)
	dst = e.appendSource(dst, ev)
	dst[start] = '{' // in place of the comma
	dst = strconv.AppendInt(append(dst, `,"ts_ms":`...), ev.ReadAt.UnixMilli(), 10)
	dst = envelope.AppendString(append(dst, `,"databaseName":`...), ev.Table.Database)
	dst = append(dst, `,"schemaName":`...)
	dst = appendTextOrNull(dst, ev.Table.Schema)
	dst = appendTextOrNull(append(dst, `,"ddl":`...), c.DDL)
	kind, shown := "ALTER", c.New
	switch {
	case c.Old == nil:
		kind = "CREATE"
	case c.New == nil:
		kind, shown = "DROP", nil
	}
	dst = append(append(append(dst, `,"tableChanges":[{"type":"`...), kind...), `","id":`...)
	id := `"` + ev.Table.Database + `"`
	if ev.Table.Schema != "" {
		id += `."` + ev.Table.Schema + `"`
	}
	dst = envelope.AppendString(dst, id+`."`+ev.Table.Name+`"`)
	dst = appendShape(append(dst, `,"table":`...), shown)
	return append(append(dst, `}]}`...), e.names.tail...)
}

// appendNoSchema appends the head of a payload that has no schema.
func (e *encoder) appendNoSchema(dst []byte) []byte {
	if !e.format.Schemas {
		return dst
	}
	return append(dst, noSchema...)
}

func appendTextOrNull(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, null...)
	}
	return envelope.AppendString(dst, s)
}

// appendShape appends what a table looks like. What is not known of it is null.
func appendShape(dst []byte, t *change.Table) []byte {
	if t == nil {
		return append(dst, null...)
	}
	dst = append(dst, `{"defaultCharsetName":null,"primaryKeyColumnNames":[`...)
	for i, c := range t.Key {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = envelope.AppendString(dst, t.Columns[c].Name)
	}
	dst = append(dst, `],"columns":[`...)
	for i, c := range t.Columns {
		if i > 0 {
			dst = append(dst, ',')
		}
		name, _ := typeOf(c.Type)
		dst = envelope.AppendString(append(dst, `{"name":`...), c.Name)
		dst = envelope.AppendString(append(dst, `,"jdbcType":null,"nativeType":null,"typeName":`...), name)
		dst = envelope.AppendString(append(dst, `,"typeExpression":`...), c.Type)
		dst = append(dst, `,"charsetName":null,"length":null,"scale":null,"position":`...)
		dst = strconv.AppendInt(dst, int64(i+1), 10)
		dst = strconv.AppendBool(append(dst, `,"optional":`...), c.Nullable)
		dst = append(dst, `,"autoIncremented":null,"generated":null,"comment":null,"defaultValueExpression":null,"enumValues":null}`...)
	}
	return append(dst, `],"comment":null}`...)
}
