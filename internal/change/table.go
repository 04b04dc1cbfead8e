package change

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// Logical is what a column holds, in the terms that the envelope and the schema metadata need.
type Logical uint8

// The logical types. LogicalText is also what an unlisted database type becomes: its value is delivered as the database
// prints it.
const (
	LogicalText Logical = iota
	LogicalBool
	LogicalInt32 // every signed integer of up to 32 bits, and unsigned ones of up to 24
	LogicalInt64
	LogicalUint32
	LogicalUint64
	LogicalFloat32
	LogicalFloat64
	LogicalDecimal
	LogicalBytes
	LogicalJSON
	LogicalDate
	LogicalTime
	LogicalDateTime  // without time zone
	LogicalTimestamp // an instant, UTC
	LogicalUUID
	LogicalArray    // of Parts[0]
	LogicalObject   // with the fields Parts
	LogicalMap      // of strings to Parts[0]
	LogicalGeometry // {"wkb":…,"srid":…}
)

// Column describes one column of a table.
type Column struct {
	Name string
	// Type is the database's own type text, such as "bigint unsigned" or "numeric(10,2)".
	Type string
	// Base is that of the type below a domain; empty for a column that has no domain.
	Base     string
	Logical  Logical
	Nullable bool
	// Precision and Scale are those of a decimal; Precision is 0 when it has none. For times, Scale is the number
	// of fractional digits.
	Precision, Scale int
	// Quoted says that integers are delivered as strings of digits.
	Quoted bool
	// Default is the value that rows have which were there before the column, or that a statement leaves out, as text; nil where there is none,
	// and where it is an expression or not known. Two versions of a table do not differ by it.
	Default *string `json:",omitempty"`
	// Parts describes what an array, a map or an object is made of; the parts of arrays and maps have no name.
	Parts []Column
}

// Source is what all tables of one configured source share. It is immutable.
type Source struct {
	// Connector is "mysql" or "postgresql".
	Connector string
	// Name is the name from the source's configuration, which consumers see.
	Name string
	// Tenant is the tenant from the source's configuration; empty when it has none.
	Tenant string
	// Version is the version of DeltaForge that reads.
	Version string
	// Metadata are the keys that its messages have.
	Metadata Metadata
	// Format is what its messages look like; nil stands for the native format.
	Format Format
	// Rows reads rows of its tables as they are now; nil: nobody can. It is set before the first table refers to the source.
	Rows Rows
}

// Table is one version of a table's shape. It is immutable: DDL makes a new one.
type Table struct {
	// Source is the source that reads the table.
	Source *Source
	// Database is the MySQL database, or the PostgreSQL database that the source is connected to.
	Database string
	// Schema is the PostgreSQL schema; empty for MySQL.
	Schema string
	Name   string
	// Columns are in the table's order.
	Columns []Column
	// Key holds the indexes of the columns that identify a row; empty for a table without a key.
	Key []int

	once        sync.Once
	fingerprint string
	fullName    string
	commonOnce  sync.Once
	common      any
	templates   [len(templateOps)]atomic.Pointer[service.Message] // one an operation, made when it is needed

	texts sync.Map
}

// Text returns what make has made for the key. An encoder keeps there what it computes once per table; the key is its format. Make may
// be called more than once, and then returns equal things.
func (t *Table) Text(key any, make func(*Table) any) any {
	if text, ok := t.texts.Load(key); ok {
		return text
	}
	text, _ := t.texts.LoadOrStore(key, make(t))
	return text
}

// With returns the table with other columns, for a processor that changes what its rows have. Key are indexes of those columns.
func (t *Table) With(columns []Column, key []int) *Table {
	return &Table{Source: t.Source, Database: t.Database, Schema: t.Schema, Name: t.Name, Columns: columns, Key: key}
}

// Column returns the index of a column, or -1.
func (t *Table) Column(name string) int {
	return slices.IndexFunc(t.Columns, func(c Column) bool { return c.Name == name })
}

// HasKey reports whether an image of a row has all columns of the key, and there is one.
func (t *Table) HasKey(row []Value) bool {
	if row == nil {
		return false
	}
	for _, c := range t.Key {
		if !row[c].Known() {
			return false
		}
	}
	return len(t.Key) > 0
}

// KeyChanged reports whether the images of a row have two keys.
func (t *Table) KeyChanged(before, after []Value) bool {
	return t.HasKey(before) && t.HasKey(after) && slices.ContainsFunc(t.Key, func(c int) bool { return !before[c].Equal(after[c]) })
}

// Container is the first half of the full name: the schema, or the database for MySQL.
func (t *Table) Container() string {
	if t.Schema != "" {
		return t.Schema
	}
	return t.Database
}

// FullName is the name that metrics and logs use: db.table, or schema.table for PostgreSQL.
func (t *Table) FullName() string {
	t.once.Do(t.derive)
	return t.fullName
}

// Fingerprint identifies the table's shape: sixteen hexadecimal digits, of a SHA-256 over name, columns and key. Equal shapes have
// equal fingerprints in every run.
func (t *Table) Fingerprint() string {
	t.once.Do(t.derive)
	return t.fingerprint
}

// CommonSchema returns the table as a Benthos schema.Common in its Any form, as encoders expect it in the metadata key
// "schema". It must not be changed.
func (t *Table) CommonSchema() any {
	t.commonOnce.Do(func() {
		c := t.commonSchema()
		t.common = c.ToAny()
	})
	return t.common
}

// derive computes, once, what all rows of the table need.
func (t *Table) derive() {
	text := make([]byte, 0, 128+64*len(t.Columns))
	for i, name := range []string{t.Source.Connector, t.Database, t.Schema, t.Name} {
		if i > 0 {
			text = append(text, ' ')
		}
		text = strconv.AppendQuote(text, name)
	}
	text = append(text, '\n')
	text = appendColumns(text, t.Columns)
	text = fmt.Appendf(text, "%v\n", t.Key)
	sum := sha256.Sum256(text)
	t.fingerprint = hex.EncodeToString(sum[:8])
	t.fullName = t.Database + "." + t.Name
	if t.Schema != "" {
		t.fullName = t.Schema + "." + t.Name
	}
}

// appendColumns appends what the fingerprint is made of. A change of this text changes every fingerprint.
func appendColumns(dst []byte, columns []Column) []byte {
	for i := range columns {
		c := &columns[i]
		dst = append(strconv.AppendQuote(dst, c.Name), ' ')
		dst = append(strconv.AppendQuote(dst, c.Type), ' ')
		dst = append(strconv.AppendUint(dst, uint64(c.Logical), 10), ' ')
		dst = append(strconv.AppendBool(dst, c.Nullable), ' ')
		dst = append(strconv.AppendInt(dst, int64(c.Precision), 10), ' ')
		dst = append(strconv.AppendInt(dst, int64(c.Scale), 10), '\n')
		if c.Quoted || len(c.Parts) > 0 { // what few columns have, so that the others keep the fingerprint they always had
			dst = append(strconv.AppendBool(dst, c.Quoted), ' ')
			dst = append(strconv.AppendInt(dst, int64(len(c.Parts)), 10), '\n')
			dst = appendColumns(dst, c.Parts)
		}
	}
	return dst
}

// immutableSchema is the metadata schema of a table, which is made when somebody asks.
type immutableSchema struct{ t *Table }

// Copy implements service.ImmutableValue.
func (s immutableSchema) Copy() any { return cloneAny(s.t.CommonSchema()) }

func cloneAny(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, e := range v {
			m[k] = cloneAny(e)
		}
		return m
	case []any:
		l := make([]any, len(v))
		for i, e := range v {
			l[i] = cloneAny(e)
		}
		return l
	default:
		return v
	}
}

// The columns of TransactionTable.
const (
	TransactionID = iota
	TransactionStatus
	TransactionCount
	TransactionTables
	TransactionTime
)

// TransactionTable returns the table of the markers of transactions, whose events are inserts of a row with the operation of a logical message.
// Like is a table that a transaction has changed.
func TransactionTable(like *Table) *Table {
	t := &Table{
		Source: like.Source, Database: "deltaforge", Name: "transaction", Key: []int{TransactionID},
		Columns: []Column{
			{Name: "id", Type: "text"},
			{Name: "status", Type: "text"},
			{Name: "event_count", Type: "bigint", Logical: LogicalInt64, Nullable: true},
			{Name: "data_collections", Type: "json", Logical: LogicalJSON, Nullable: true},
			{Name: "ts_ms", Type: "bigint", Logical: LogicalInt64},
		},
	}
	if like.Schema != "" {
		t.Database, t.Schema = like.Database, "deltaforge"
	}
	return t
}

// MessageTable returns the table of the events that are logical messages (pg_logical_emit_message). Its columns are prefix
// and content; prefix is the key.
func MessageTable(src *Source, database string) *Table {
	return &Table{
		Source: src, Database: database, Schema: "pg_logical", Name: "message", Key: []int{0},
		Columns: []Column{{Name: "prefix", Type: "text"}, {Name: "content", Type: "bytea", Logical: LogicalBytes}},
	}
}
