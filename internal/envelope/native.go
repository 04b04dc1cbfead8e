package envelope

import (
	"strconv"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
)

// AppendMessage appends the payload and the key of an event to buf and returns its message, which keeps both parts of
// buf, and the grown buf. Callers use one buf for all events of a batch: one allocation a batch, not one a row.
func AppendMessage(buf []byte, ev *change.Event) (*service.Message, []byte) {
	start := len(buf)
	buf = AppendNative(buf, ev)
	end := len(buf)
	payload := buf[start:end:end]
	buf = AppendKey(buf, ev)
	key := string(buf[end:])
	return change.NewMessage(ev, payload, key), buf[:end]
}

// AppendNative appends the native envelope of an event. The order of the fields is fixed.
func AppendNative(dst []byte, ev *change.Event) []byte {
	dst = append(dst, `{"before":`...)
	dst = appendRow(dst, ev.Table, ev.Before)
	dst = append(dst, `,"after":`...)
	dst = appendRow(dst, ev.Table, ev.After)
	dst = append(dst, `,"source":`...)
	dst = appendSource(dst, ev)
	dst = append(dst, `,"op":"`...)
	dst = append(dst, byte(ev.Op))
	dst = append(dst, `","ts_ms":`...)
	dst = strconv.AppendInt(dst, ev.ReadAt.UnixMilli(), 10)
	dst = append(dst, `,"transaction":`...)
	if ev.Tx.ID == "" {
		dst = append(dst, "null"...)
	} else {
		dst = append(dst, `{"id":`...)
		dst = AppendString(dst, ev.Tx.ID)
		dst = append(dst, `,"total_order":`...)
		dst = strconv.AppendUint(dst, ev.Index, 10)
		dst = append(dst, '}')
	}
	dst = append(dst, `,"event_id":`...)
	dst = appendEventID(dst, ev)
	dst = append(dst, `,"tenant_id":`...)
	if ev.Table.Source.Tenant == "" {
		dst = append(dst, "null"...)
	} else {
		dst = AppendString(dst, ev.Table.Source.Tenant)
	}
	dst = append(dst, `,"schema_version":"`...)
	dst = append(dst, ev.Table.Fingerprint()...)
	return append(dst, `"}`...)
}

// appendEventID appends what change.Event.AppendID gives, as a JSON string.
func appendEventID(dst []byte, ev *change.Event) []byte {
	dst = AppendString(dst, ev.Tx.Position)
	dst[len(dst)-1] = ':' // over the closing quote
	dst = strconv.AppendUint(dst, ev.Index, 10)
	return append(dst, '"')
}

func appendRow(dst []byte, t *change.Table, row []change.Value) []byte {
	if row == nil {
		return append(dst, "null"...)
	}
	dst = append(dst, '{')
	first := true
	for i, v := range row {
		if v.Kind() == change.Absent {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = AppendString(dst, t.Columns[i].Name)
		dst = append(dst, ':')
		dst = AppendValue(dst, v)
	}
	return append(dst, '}')
}

func appendSource(dst []byte, ev *change.Event) []byte {
	t := ev.Table
	dst = append(dst, `{"version":`...)
	dst = AppendString(dst, t.Source.Version)
	dst = append(dst, `,"connector":`...)
	dst = AppendString(dst, t.Source.Connector)
	dst = append(dst, `,"name":`...)
	dst = AppendString(dst, t.Source.Name)
	dst = append(dst, `,"ts_ms":`...)
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
	dst = append(dst, `","db":`...)
	dst = AppendString(dst, t.Database)
	if t.Schema != "" {
		dst = append(dst, `,"schema":`...)
		dst = AppendString(dst, t.Schema)
	}
	dst = append(dst, `,"table":`...)
	dst = AppendString(dst, t.Name)
	if t.Schema != "" {
		dst = append(dst, `,"txId":`...)
		dst = strconv.AppendUint(dst, uint64(ev.Tx.XID), 10)
		dst = append(dst, `,"lsn":`...)
		dst = strconv.AppendUint(dst, ev.LSN, 10)
		return append(dst, '}')
	}
	dst = append(dst, `,"server_id":`...)
	dst = strconv.AppendUint(dst, uint64(ev.Tx.ServerID), 10)
	dst = append(dst, `,"gtid":`...)
	if ev.Tx.GTID == "" {
		dst = append(dst, "null"...)
	} else {
		dst = AppendString(dst, ev.Tx.GTID)
	}
	dst = append(dst, `,"file":`...)
	dst = AppendString(dst, ev.File)
	dst = append(dst, `,"pos":`...)
	dst = strconv.AppendUint(dst, ev.Pos, 10)
	dst = append(dst, `,"row":`...)
	dst = strconv.AppendInt(dst, int64(ev.Row), 10)
	return append(dst, '}')
}

// AppendKey appends the message key of an event: the JSON object of its key columns, from the newest image that has
// them. It appends nothing for a table without a key, and for an event whose images lack a key column.
func AppendKey(dst []byte, ev *change.Event) []byte {
	t := ev.Table
	if len(t.Key) == 0 || (ev.After == nil && ev.Before == nil) {
		return dst
	}
	start := len(dst)
	for i, c := range t.Key {
		v, ok := keyValue(ev, c)
		if !ok {
			return dst[:start]
		}
		if i == 0 {
			dst = append(dst, '{')
		} else {
			dst = append(dst, ',')
		}
		dst = AppendString(dst, t.Columns[c].Name)
		dst = append(dst, ':')
		dst = AppendValue(dst, v)
	}
	return append(dst, '}')
}

func keyValue(ev *change.Event, col int) (change.Value, bool) {
	for _, row := range [2][]change.Value{ev.After, ev.Before} {
		if col < len(row) && row[col].Known() {
			return row[col], true
		}
	}
	return change.Value{}, false
}
