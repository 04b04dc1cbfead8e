package envelope

import "github.com/deltaforge/deltaforge/internal/change"

// rowsText writes the images of rows, and keys: from the values of an event, or straight from the log if there is a writer.
type rowsText struct {
	writer change.RowWriter
	// Of the newest image that the writer has written of the row: what is before it in the payload, plus one, and the ends of its values.
	// 0: there is none.
	at      int
	ends    []int32
	failed  bool
	scratch []byte
}

func (r *rowsText) appendBefore(dst []byte, ev *change.Event, names *tableText) []byte {
	if r.writer == nil {
		return appendRow(dst, names, ev.Before())
	}
	return r.write(dst, false, names)
}

func (r *rowsText) appendAfter(dst []byte, ev *change.Event, names *tableText) []byte {
	if r.writer == nil {
		return appendRow(dst, names, ev.After())
	}
	return r.write(dst, true, names)
}

func (r *rowsText) write(dst []byte, after bool, names *tableText) []byte {
	if len(r.ends) != len(names.names) {
		r.ends = make([]int32, len(names.names))
	}
	at := len(dst)
	dst, ok := r.writer.AppendRow(dst, after, names.names, r.ends)
	switch {
	case !ok:
		r.failed = true
	case dst[at] == '{':
		r.at = at + 1
	}
	return dst
}

// appendKey appends the key of an event whose payload is in dst, if there is a writer.
func (r *rowsText) appendKey(dst []byte, ev *change.Event, names *tableText) []byte {
	if r.writer == nil {
		return appendKey(dst, ev, names)
	}
	row := dst
	if r.at == 0 && len(ev.Table.Key) > 0 { // the payload has no image
		r.scratch = r.write(r.scratch[:0], ev.Op != change.Delete, names)
		row = r.scratch
	}
	at, failed := r.at-1, r.failed
	r.at, r.failed = 0, false
	if at < 0 || failed || len(ev.Table.Key) == 0 {
		return dst
	}
	row = row[at:]
	start := len(dst)
	for _, c := range ev.Table.Key {
		from := int32(0)
		if c > 0 {
			from = r.ends[c-1]
		}
		dst = append(dst, names.names[c]...)
		dst = append(dst, row[int(from)+len(names.names[c]):r.ends[c]]...) // as AppendValue has written it
	}
	dst[start] = '{' // in place of the comma
	return append(dst, '}')
}

func appendRow(dst []byte, names *tableText, row []change.Value) []byte {
	if row == nil {
		return append(dst, "null"...)
	}
	start := len(dst)
	for i := range row {
		if row[i].Kind() == change.Absent {
			continue
		}
		dst = append(dst, names.names[i]...)
		dst = AppendValue(dst, row[i])
	}
	if len(dst) == start {
		return append(dst, "{}"...)
	}
	dst[start] = '{' // in place of the comma before the first column
	return append(dst, '}')
}

// AppendKey appends the message key of an event: the JSON object of its key columns, from the newest image that has
// them. It appends nothing for a table without a key, and for an event whose images lack a key column. A Schema event has the table's
// name for a key, so that those of a table have an order wherever keys decide on it.
func AppendKey(dst []byte, ev *change.Event) []byte {
	return appendKey(dst, ev, textOf(ev.Table))
}

func appendKey(dst []byte, ev *change.Event, names *tableText) []byte {
	t := ev.Table
	if ev.Op == change.Schema {
		return append(appendTableName(dst, t), '}')
	}
	if len(t.Key) == 0 || (ev.After() == nil && ev.Before() == nil) {
		return dst
	}
	start := len(dst)
	for i, c := range t.Key {
		v, ok := keyValue(ev, c)
		if !ok {
			return dst[:start]
		}
		dst = append(dst, names.names[c]...)
		if i == 0 {
			dst[start] = '{' // in place of the comma
		}
		dst = AppendValue(dst, v)
	}
	return append(dst, '}')
}

func keyValue(ev *change.Event, col int) (change.Value, bool) {
	for _, row := range [2][]change.Value{ev.After(), ev.Before()} {
		if col < len(row) && row[col].Known() {
			return row[col], true
		}
	}
	return change.Value{}, false
}
