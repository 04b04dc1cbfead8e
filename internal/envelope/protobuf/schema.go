package protobuf

import (
	"strconv"
	"strings"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope/confluent"
)

const (
	optional = "optional"
	repeated = "repeated"

	// maxNumber is the largest number of a field. Those from reservedFrom to reservedTo are the language's own.
	maxNumber    = 1<<29 - 1
	reservedFrom = 19000
	reservedTo   = 19999
)

const (
	typeSource      = "Source"
	typeTransaction = "Transaction"
)

// fields numbers fields. Their names in JSON are their names.
func fields(list ...field) []field {
	for i := range list {
		list[i].number = i + 1
		if strings.Contains(list[i].name, "_") {
			list[i].original = list[i].name
		}
	}
	return list
}

// envelopeMessages are those around the rows.
func envelopeMessages() []*message {
	return []*message{
		{confluent.RecordEnvelope, fields(
			field{typ: confluent.RecordValue, name: "before"}, field{typ: confluent.RecordValue, name: "after"}, field{typ: typeSource, name: "source"},
			field{typ: typeTransaction, name: "transaction"}, field{typ: typeString, name: "op"}, field{typ: typeInt64, name: "ts_ms"}, field{typ: typeInt64, name: "ts_us"},
			field{typ: typeInt64, name: "ts_ns"}, field{typ: typeString, name: "event_id"},
		)},
		{typeSource, fields(
			field{typ: typeString, name: "version"}, field{typ: typeString, name: "connector"}, field{typ: typeString, name: "name"}, field{typ: typeInt64, name: "ts_ms"},
			field{typ: typeInt64, name: "ts_us"}, field{typ: typeInt64, name: "ts_ns"}, field{typ: typeString, name: "snapshot"}, field{typ: typeString, name: "db"},
			field{label: optional, typ: typeString, name: "schema"}, field{typ: typeString, name: "table"}, field{label: optional, typ: typeInt64, name: "server_id"},
			field{label: optional, typ: typeString, name: "gtid"}, field{label: optional, typ: typeString, name: "file"}, field{label: optional, typ: typeUint64, name: "pos"},
			field{label: optional, typ: typeInt32, name: "row"}, field{label: optional, typ: typeInt64, name: "tx_id"}, field{label: optional, typ: typeUint64, name: "lsn"},
		)},
		{typeTransaction, fields(field{typ: typeString, name: "id"}, field{typ: typeInt64, name: "total_order"})},
	}
}

// space makes a package of a topic. Inside it, google is Google's.
func space(topic string) string {
	parts := strings.Split(confluent.Namespace(topic), ".")
	for i, p := range parts[1:] {
		if p == "google" {
			parts[i+1] = "google_"
		}
	}
	return strings.Join(parts, ".")
}

// newFile returns the file of a record of columns, and gives the columns their numbers: those that they have in the newest schema of the
// subject, and the next ones for new columns.
func newFile(space, record string, columns []*column, label string, newest *file) *file {
	f := &file{space: space}
	row := &message{name: record}
	f.messages = append(f.messages, row)
	old := newest.message(record)
	names := newNames(columns, old)
	next := 1
	for _, x := range old.fields {
		next = max(next, x.number+1)
	}
	for i, c := range columns {
		x, known := old.column(c.original)
		if !known {
			if next >= reservedFrom && next <= reservedTo {
				next = reservedTo + 1
			}
			x = field{name: names[i], number: next}
			next++
		}
		if x.original = c.original; x.original == x.name && !strings.Contains(x.name, "_") { // a name in JSON has no _ of its own
			x.original = ""
		}
		x.label = label
		if !known || !widens(x.typ, c.typ) {
			x.typ = c.typ
		}
		c.number(x.number)
		row.fields = append(row.fields, x)
		for _, m := range c.messages() {
			if f.index(m.name) < 0 {
				f.messages = append(f.messages, m)
			}
		}
	}
	for _, c := range columns {
		if (c.form == formTimestamp || c.form == formArray && c.element.form == formTimestamp) && len(f.imports) == 0 {
			f.imports = append(f.imports, importTimestamp)
		}
	}
	return f
}

// fold returns what two names of a message may not have in common: generated code and JSON take no notice of the rest.
func fold(name string) string { return strings.ToLower(strings.ReplaceAll(name, "_", "")) }

// newNames returns the names of the columns that have none: valid ones, and such as the message has not had yet. A name that is valid and
// free stays as it is; of another one, _2, _3 and so on is made.
func newNames(columns []*column, old *message) []string {
	names := make([]string, len(columns))
	taken := map[string]bool{}
	for _, x := range old.fields {
		taken[fold(x.name)] = true
	}
	for _, valid := range []bool{true, false} { // those that are valid first
		for i, c := range columns {
			base := confluent.Valid(c.original)
			if _, known := old.column(c.original); known || (base == c.original) != valid {
				continue
			}
			name := base
			for k := 2; taken[fold(name)] || isType(name); k++ {
				name = base + "_" + strconv.Itoa(k)
			}
			names[i], taken[fold(name)] = name, true
		}
	}
	return names
}

// isType reports a name that the types of fields begin with.
func isType(name string) bool {
	return name == "google" || name == typeDecimal || name == typeGeometry || name == typeFloats || strings.HasPrefix(name, "ArrayOf") || strings.HasPrefix(name, "Nullable")
}

// indexes returns the place of a message in its file, as the wire format has it: how many numbers, and the numbers; for the first message
// alone, 0.
func indexes(at int) []byte {
	if at == 0 {
		return []byte{0}
	}
	return appendZigzag(appendZigzag(nil, 1), at)
}

// valueFile returns the file of payloads.
func (f *Format) valueFile(x *tableText, columns []*column, newest *file) *file {
	out := newFile(x.Space, confluent.RecordValue, columns, optional, newest)
	if f.Shape == confluent.ShapeEnvelope {
		around := envelopeMessages()
		out.messages = append(append(around[:1:1], out.messages...), around[1:]...)
	}
	return out
}

func keyFile(x *tableText, columns []*column, newest *file) *file {
	return newFile(x.Space, confluent.RecordKey, columns, "", newest)
}

// columnsOf works out the columns of a table, all or those of the key.
func (f *Format) columnsOf(t *change.Table, key bool) (columns []*column) {
	if key {
		for _, i := range t.Key {
			columns = append(columns, f.column(t, i))
		}
		return columns
	}
	for i := range t.Columns {
		columns = append(columns, f.column(t, i))
	}
	return columns
}
