package change

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// The metadata keys that a message can have.
const (
	MetaSource        = "source"
	MetaDatabase      = "database"
	MetaSchemaName    = "schema_name"
	MetaTable         = "table"
	MetaOp            = "op"
	MetaOperation     = "operation"
	MetaKey           = "key"
	MetaEventID       = "event_id"
	MetaTransactionID = "transaction_id"
	MetaPosition      = "position"
	MetaCommitTsMs    = "commit_ts_ms"
	MetaSnapshot      = "snapshot"
	MetaSchema        = "schema"
)

// MetadataKeys returns the keys that a message can have, in the order of the documents.
func MetadataKeys() []string {
	return []string{
		MetaDatabase, MetaSchemaName, MetaTable, MetaOperation, MetaKey, MetaEventID, MetaCommitTsMs,
		MetaSource, MetaOp, MetaTransactionID, MetaPosition, MetaSnapshot, MetaSchema,
	}
}

// DefaultMetadata returns the keys that messages have when nothing else is configured. Go keeps a map of up to seven entries in one
// piece, so that a message's copy of it is two small allocations; with more it is four, and 700 bytes. All are strings: an
// output that takes metadata takes these.
func DefaultMetadata() []string { return MetadataKeys()[:7] }

// Metadata is the set of keys that the messages of a source have. The zero value is that of DefaultMetadata.
type Metadata struct {
	chosen bool
	keys   uint16 // a bit a key, in the order of MetadataKeys
}

// ParseMetadata returns the set of keys of a configuration. An error names the key that is unknown.
func ParseMetadata(keys []string) (Metadata, error) {
	m := Metadata{chosen: true}
	for _, key := range keys {
		i := slices.Index(MetadataKeys(), key)
		if i < 0 {
			return Metadata{}, fmt.Errorf("%q is not a metadata key; want some of %s", key, strings.Join(MetadataKeys(), ", "))
		}
		m.keys |= 1 << i
	}
	return m, nil
}

// Has reports whether messages have the key.
func (m Metadata) Has(key string) bool {
	if !m.chosen {
		return slices.Contains(DefaultMetadata(), key)
	}
	i := slices.Index(MetadataKeys(), key)
	return i >= 0 && m.keys&(1<<i) != 0
}

// newTemplate makes a message with the metadata that is equal for all rows of the table.
func (t *Table) newTemplate(op Op) *service.Message {
	m := service.NewMessage(nil)
	for _, key := range MetadataKeys() {
		if !t.Source.Metadata.Has(key) {
			continue
		}
		switch key {
		case MetaSource:
			m.MetaSetMut(key, t.Source.Name)
		case MetaDatabase:
			m.MetaSetMut(key, t.Database)
		case MetaSchemaName:
			if t.Schema != "" {
				m.MetaSetMut(key, t.Schema)
			}
		case MetaTable:
			m.MetaSetMut(key, t.Name)
		case MetaOp:
			m.MetaSetMut(key, string(rune(op)))
		case MetaOperation:
			m.MetaSetMut(key, op.Name())
		case MetaSchema:
			m.MetaSetImmut(key, immutableSchema{t})
		}
	}
	return m
}

// setShared sets the metadata that is equal in a run of events of one table, operation and origin.
func (e *Event) setShared(m *service.Message) {
	keys, tx := e.Table.Source.Metadata, e.Tx.shared()
	if keys.Has(MetaPosition) {
		m.MetaSetMut(MetaPosition, tx.position)
	}
	if keys.Has(MetaCommitTsMs) {
		m.MetaSetMut(MetaCommitTsMs, tx.commitTsMs)
	}
	if keys.Has(MetaTransactionID) && e.Tx.ID != "" {
		m.MetaSetMut(MetaTransactionID, tx.id)
	}
	if keys.Has(MetaSnapshot) {
		m.MetaSetMut(MetaSnapshot, string(e.snapshot()))
	}
}

func (e *Event) snapshot() Snapshot {
	if e.Snapshot == "" {
		return SnapshotFalse
	}
	return e.Snapshot
}

// lazyID is the metadata event_id, which becomes text when somebody asks.
type lazyID Event

// Copy implements service.ImmutableValue.
func (l *lazyID) Copy() any {
	var room [96]byte
	return string((*Event)(l).AppendID(room[:0]))
}

// lazyKey is the metadata key, which becomes text when somebody asks.
type lazyKey Event

// Copy implements service.ImmutableValue.
func (l *lazyKey) Copy() any { return string(l.key) }

// Meta returns, as text, what an output reads under a metadata key of a message:
//
//   - the metadata of the message, which a processor may have set;
//   - else the value from the message's event. A key that the messages of the source have is the exception: a processor has
//     deleted it, and there is no value.
//
// It returns false if there is no value. An event has no text of the schema. A text that has to be made is appended to buf, which
// the caller goes on with, so that it costs no allocation per message. The text must not be changed.
func Meta(m *service.Message, key string, buf []byte) (text, grown []byte, ok bool) {
	start := len(buf)
	v, ok := m.MetaGetImmut(key)
	if !ok {
		ev, ours := FromMessage(m)
		if !ours || ev.Table.Source.Metadata.Has(key) {
			return nil, buf, false
		}
		buf, ok = ev.appendMeta(buf, key)
		return buf[start:len(buf):len(buf)], buf, ok
	}
	switch v := v.(type) {
	case *lazyKey:
		return v.key, buf, true
	case *lazyID:
		buf = (*Event)(v).AppendID(buf)
	case string:
		return unsafe.Slice(unsafe.StringData(v), len(v)), buf, true
	default:
		s, _ := m.MetaGet(key)
		buf = append(buf, s...)
	}
	return buf[start:len(buf):len(buf)], buf, true
}

// appendMeta appends the value of a metadata key, or reports that the event has none.
func (e *Event) appendMeta(dst []byte, key string) ([]byte, bool) {
	start := len(dst)
	switch key {
	case MetaSource:
		dst = append(dst, e.Table.Source.Name...)
	case MetaDatabase:
		dst = append(dst, e.Table.Database...)
	case MetaSchemaName:
		dst = append(dst, e.Table.Schema...)
	case MetaTable:
		dst = append(dst, e.Table.Name...)
	case MetaOp:
		dst = append(dst, byte(e.Op))
	case MetaOperation:
		dst = append(dst, e.Op.Name()...)
	case MetaKey:
		dst = append(dst, e.key...)
	case MetaEventID:
		dst = e.AppendID(dst)
	case MetaTransactionID:
		dst = append(dst, e.Tx.ID...)
	case MetaPosition:
		dst = append(dst, e.Tx.Position...)
	case MetaCommitTsMs:
		dst = strconv.AppendInt(dst, e.Tx.CommitTime.UnixMilli(), 10)
	case MetaSnapshot:
		dst = append(dst, e.snapshot()...)
	}
	return dst, len(dst) > start
}
