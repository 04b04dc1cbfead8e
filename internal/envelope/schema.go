package envelope

import (
	"strconv"

	"github.com/deltaforge/deltaforge/internal/change"
)

// appendSchemaChange appends what an event about a table's shape has in "after".
func appendSchemaChange(dst []byte, c *change.SchemaChange) []byte {
	dst = append(dst, `{"ddl":`...)
	if c.DDL == "" {
		dst = append(dst, "null"...)
	} else {
		dst = AppendString(dst, c.DDL)
	}
	dst = appendTable(append(dst, `,"old":`...), c.Old)
	dst = appendTable(append(dst, `,"new":`...), c.New)
	return append(dst, '}')
}

// appendTable appends one version of a table.
func appendTable(dst []byte, t *change.Table) []byte {
	if t == nil {
		return append(dst, "null"...)
	}
	dst = append(appendTableName(dst, t), `,"columns":[`...)
	for i, c := range t.Columns {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendString(append(dst, `{"name":`...), c.Name)
		dst = AppendString(append(dst, `,"type":`...), c.Type)
		dst = append(dst, `,"nullable":`...)
		dst = append(strconv.AppendBool(dst, c.Nullable), '}')
	}
	dst = append(dst, `],"key":[`...)
	for i, c := range t.Key {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendString(dst, t.Columns[c].Name)
	}
	dst = append(dst, `],"schema_version":"`...)
	return append(append(dst, t.Fingerprint()...), `"}`...)
}

// appendTableName appends the beginning of an object that names a table.
func appendTableName(dst []byte, t *change.Table) []byte {
	dst = AppendString(append(dst, `{"db":`...), t.Database)
	if t.Schema != "" {
		dst = AppendString(append(dst, `,"schema":`...), t.Schema)
	}
	return AppendString(append(dst, `,"table":`...), t.Name)
}
