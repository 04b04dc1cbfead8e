package change

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// savedEvent is an event as it is kept for later: what makes its message again, in this process or another one.
type savedEvent struct {
	Table    *savedTable   `json:"table"`
	Old, New *savedTable   `json:",omitzero"` // of Change
	DDL      *string       `json:"ddl,omitempty"`
	Op       Op            `json:"op"`
	Tx       *Tx           `json:"tx"`
	ReadAt   time.Time     `json:"read_at"`
	Snapshot Snapshot      `json:"snapshot,omitempty"`
	File     string        `json:"file,omitempty"`
	Index    uint64        `json:"index,omitempty"`
	Sub      int           `json:"sub,omitempty"`
	Ident    []byte        `json:"ident,omitempty"`
	Pos      uint64        `json:"pos,omitempty"`
	Row      int           `json:"row,omitempty"`
	LSN      uint64        `json:"lsn,omitempty"`
	Before   *[]savedValue `json:"before,omitempty"`
	After    *[]savedValue `json:"after,omitempty"`
	Payload  []byte        `json:"payload"`
	Key      []byte        `json:"key,omitempty"`

	Part      int      `json:"part,omitempty"`
	Tombstone bool     `json:"tombstone,omitempty"`
	Followed  bool     `json:"followed,omitempty"`
	Headers   []Header `json:"headers,omitempty"`
}

// savedTable has everything of a table but the format of its source, which is code.
type savedTable struct {
	Source                 savedSource
	Database, Schema, Name string
	Columns                []Column
	Key                    []int
}

type savedSource struct {
	Connector, Name, Tenant, Version string
	Metadata                         Metadata
	// Formatted says that there was a format.
	Formatted bool
}

// savedValue has the bits of a value, or its bytes.
type savedValue struct {
	Kind  Kind   `json:"k"`
	Bits  uint64 `json:"n,omitempty"`
	Bytes []byte `json:"b,omitempty"`
}

// MarshalJSON implements json.Marshaler: the keys, or null for those of DefaultMetadata.
func (m Metadata) MarshalJSON() ([]byte, error) {
	if !m.chosen {
		return []byte("null"), nil
	}
	return json.Marshal(slices.DeleteFunc(MetadataKeys(), func(key string) bool { return !m.Has(key) }))
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *Metadata) UnmarshalJSON(data []byte) (err error) {
	var keys []string
	if err := json.Unmarshal(data, &keys); err != nil || keys == nil {
		return err
	}
	*m, err = ParseMetadata(keys)
	return err
}

// Marshal returns an event with the payload and the key of its message, for Unmarshal. Native is the format that a restored event has.
func (e *Event) Marshal(native Format) ([]byte, error) {
	s := savedEvent{
		Table: saveTable(e.Table, native), Op: e.Op, Tx: e.Tx, ReadAt: e.ReadAt, Snapshot: e.Snapshot, File: e.File, Index: e.Index, Sub: e.Sub,
		Ident: e.Ident, Pos: e.Pos, Row: e.Row, LSN: e.LSN, Before: saveRow(e.Before()), After: saveRow(e.After()), Payload: e.payload, Key: e.key,
		Part: e.Part, Tombstone: e.Tombstone, Followed: e.Followed, Headers: e.Headers,
	}
	if e.Change != nil {
		s.DDL, s.Old, s.New = &e.Change.DDL, saveTable(e.Change.Old, native), saveTable(e.Change.New, native)
	}
	return json.Marshal(s)
}

// Saved is what Unmarshal returns.
type Saved struct {
	Event        *Event
	Payload, Key []byte // for NewMessage
	// Formatted says that the source had another format than the native one, which the restored event does not have.
	Formatted bool
}

// Unmarshal reads an event that Marshal has written.
func Unmarshal(data []byte) (*Saved, error) {
	s := savedEvent{Tx: &Tx{}}
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("not a saved event: %w", err)
	}
	if s.Table == nil {
		return nil, fmt.Errorf("not a saved event: it has no table")
	}
	t := s.Table.restore()
	ev := &Event{
		Op: s.Op, Table: t, Origin: &Origin{Tx: s.Tx, ReadAt: s.ReadAt, Snapshot: s.Snapshot, File: s.File}, Index: s.Index, Sub: s.Sub,
		Ident: s.Ident, Pos: s.Pos, Row: s.Row, LSN: s.LSN,
		Part: s.Part, Tombstone: s.Tombstone, Followed: s.Followed, Headers: s.Headers,
	}
	before, err := restoreRow(s.Before, t)
	if err != nil {
		return nil, err
	}
	after, err := restoreRow(s.After, t)
	if err != nil {
		return nil, err
	}
	ev.Images = ImagesOf(before, after)
	if s.DDL != nil {
		ev.Change = &SchemaChange{DDL: *s.DDL, Old: s.Old.restore(), New: s.New.restore()}
	}
	return &Saved{ev, s.Payload, s.Key, s.Table.Source.Formatted}, nil
}

func saveTable(t *Table, native Format) *savedTable {
	if t == nil {
		return nil
	}
	src := t.Source
	return &savedTable{savedSource{src.Connector, src.Name, src.Tenant, src.Version, src.Metadata, src.Format != nil && src.Format != native}, t.Database, t.Schema, t.Name, t.Columns, t.Key}
}

func (s *savedTable) restore() *Table {
	if s == nil {
		return nil
	}
	src := &Source{Connector: s.Source.Connector, Name: s.Source.Name, Tenant: s.Source.Tenant, Version: s.Source.Version, Metadata: s.Source.Metadata}
	return &Table{Source: src, Database: s.Database, Schema: s.Schema, Name: s.Name, Columns: s.Columns, Key: s.Key}
}

func saveRow(row []Value) *[]savedValue {
	if row == nil {
		return nil
	}
	out := make([]savedValue, len(row))
	for i, v := range row {
		if out[i].Kind = v.kind; v.kind < Decimal {
			out[i].Bits = v.n
		} else {
			out[i].Bytes = v.Bytes()
		}
	}
	return &out
}

func restoreRow(saved *[]savedValue, t *Table) ([]Value, error) {
	if saved == nil {
		return nil, nil
	}
	if len(*saved) != len(t.Columns) {
		return nil, fmt.Errorf("not a saved event: a row of %s has %d values for %d columns", t.FullName(), len(*saved), len(t.Columns))
	}
	row := make([]Value, len(*saved))
	for i, v := range *saved {
		switch {
		case v.Kind > JSON:
			return nil, fmt.Errorf("not a saved event: column %s of %s has a value of the unknown kind %d", t.Columns[i].Name, t.FullName(), v.Kind)
		case v.Kind < Decimal:
			row[i] = Value{kind: v.Kind, n: v.Bits}
		default:
			row[i] = bytesOf(v.Kind, v.Bytes)
		}
	}
	return row, nil
}
