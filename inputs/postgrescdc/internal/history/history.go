// Package history keeps the shapes that tables have had, each from a place in the log on.
package history

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/pgoutput"
	"github.com/deltaforge/deltaforge/internal/change"
)

// History is the shapes that the captured tables have had, each from the first row of which the log said so. What a table was before
// a row depends on nothing but the rows before it, so a row that is read again finds the same. It is saved with the checkpoint when
// changes of shapes are events: what a session's first Relation message says of a table is news only against that.
type History struct {
	mu      sync.Mutex
	tables  map[string][]Version // by full name, oldest first; guarded by mu, as are the others
	changes uint64
	saved   uint64
}

// New returns an empty history.
func New() *History { return &History{tables: map[string][]Version{}} }

// Forget forgets all shapes: the log is another one.
func (h *History) Forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.tables)
	h.changes++
}

// Place is that of a row: its transaction's, and its number in it.
type Place struct {
	LSN   lsn.LSN `json:"lsn"`
	Index uint64  `json:"index"`
}

func (p Place) before(q Place) bool { return p.LSN < q.LSN || p.LSN == q.LSN && p.Index < q.Index }

// Version is a shape of the table of one name.
type Version struct {
	From Place  `json:"from"`
	OID  uint32 `json:"oid"`
	// Columns is what the log says of the columns, and Key what it says of the key; empty where the replica identity hides that.
	Columns string `json:"columns"`
	Key     string `json:"key,omitempty"`
	// Table is nil when the table has gone to another name.
	Table *shapeOf `json:"table"`
}

// shapeOf is a table as the history keeps it.
type shapeOf struct {
	Schema, Name string
	Columns      []change.Column
	KeyColumns   []int `json:",omitempty"`

	table *change.Table // the same
}

func keep(t *change.Table) *shapeOf {
	return &shapeOf{Schema: t.Schema, Name: t.Name, Columns: t.Columns, KeyColumns: t.Key, table: t}
}

// VersionOf is what a Relation message makes of a table.
func VersionOf(msg pgoutput.Relation, t *change.Table, at Place) Version {
	v := Version{From: at, OID: msg.OID, Table: keep(t)}
	var columns, key []byte
	for _, c := range msg.Columns {
		columns = fmt.Appendf(columns, "%q %d %d\n", c.Name, c.Typ, c.Typmod)
		if c.Key {
			key = fmt.Appendf(key, "%q\n", c.Name)
		}
	}
	v.Columns = string(columns)
	if msg.Identity == 'd' {
		v.Key = "d\n" + string(key)
	}
	return v
}

// same reports whether the log says the same of both.
func (v *Version) same(w *Version) bool {
	return v.Table != nil && v.OID == w.OID && v.Columns == w.Columns && (v.Key == w.Key || v.Key == "" || w.Key == "")
}

// last returns the version that the table of a name had before a place, nil when none is known.
func (h *History) last(name string, at Place) *Version {
	list := h.tables[name]
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].From.before(at) {
			return &list[i]
		}
	}
	return nil
}

// at returns the version that begins at a place, from when the row there was read before.
func (h *History) at(name string, at Place) *Version {
	for i := range h.tables[name] {
		if v := &h.tables[name][i]; v.From == at {
			return v
		}
	}
	return nil
}

// See takes the shape that a table has for a row, and returns what has changed since the rows before: nothing for a table that was not
// seen before. A table that has another name than before is the end of the one and the beginning of the other.
func (h *History) See(v Version) (changes []*change.SchemaChange) {
	h.mu.Lock()
	defer h.mu.Unlock()
	name := v.Table.table.FullName()
	before := h.last(name, v.From)
	if before != nil && before.same(&v) {
		if before.Key == "" && v.Key != "" || before.Table.table.Fingerprint() != v.Table.table.Fingerprint() {
			before.Key, before.Table = max(before.Key, v.Key), v.Table // what only the catalogue says
			h.changes++
		}
		return nil
	}
	if known := h.at(name, v.From); known != nil && known.same(&v) {
		v.Table = known.Table // as it was when the row was read for the first time
	}
	from, was := h.renamed(name, &v)
	if was != nil {
		changes = append(changes, &change.SchemaChange{Old: was.Table.table})
		h.put(from, Version{From: v.From, OID: v.OID})
	}
	if before != nil || was != nil {
		c := &change.SchemaChange{New: v.Table.table}
		if before != nil && before.Table != nil {
			c.Old = before.Table.table
		}
		changes = append(changes, c)
	}
	h.put(name, v)
	return changes
}

// renamed returns the other name that the table had before, and what it was then.
func (h *History) renamed(name string, v *Version) (string, *Version) {
	for other := range h.tables {
		if was := h.last(other, v.From); other != name && was != nil && was.OID == v.OID && was.Table != nil {
			return other, was
		}
	}
	return "", nil
}

// put adds a version, in place of what was there when the row was read the last time.
func (h *History) put(name string, v Version) {
	list := slices.DeleteFunc(h.tables[name], func(w Version) bool { return w.From == v.From })
	i, _ := slices.BinarySearchFunc(list, v.From, func(w Version, at Place) int {
		if w.From.before(at) {
			return -1
		}
		return 1
	})
	h.tables[name] = slices.Insert(list, i, v)
	h.changes++
}

// historyVersion is that of the record's form: a checksum in hexadecimal, a space, and JSON.
const historyVersion = 1

// recordKind is the kind of the source in the record.
const recordKind = "postgresql"

type historyRecord struct {
	Version int                  `json:"version"`
	Kind    string               `json:"kind"`
	Tables  map[string][]Version `json:"tables"`
}

// errHistory tells the way out of a history that cannot be used.
var errHistory = errors.New("`deltaforge checkpoint reset-schema KEY` drops it, so that changes of shapes are told from what the next rows show")

// Restore reads a saved record.
func (h *History) Restore(record []byte, source *change.Source, database string) error {
	sum, text, _ := bytes.Cut(record, []byte(" "))
	var r historyRecord
	n, err := strconv.ParseUint(string(sum), 16, 32)
	if err == nil && uint32(n) != crc32.ChecksumIEEE(text) {
		err = errors.New("its checksum is wrong")
	}
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		return fmt.Errorf("%w: schema history: %w: %w", checkpoint.ErrBroken, err, errHistory)
	}
	if r.Version != historyVersion || r.Kind != recordKind {
		return fmt.Errorf("%w: schema history of version %d for %q, this version of deltaforge reads %d for %q: %w",
			checkpoint.ErrIncompatible, r.Version, r.Kind, historyVersion, recordKind, errHistory)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tables = map[string][]Version{}
	for name, list := range r.Tables {
		for i := range list {
			if s := list[i].Table; s != nil {
				s.table = &change.Table{
					Source: source, Database: database, Schema: s.Schema, Name: s.Name, Columns: s.Columns, Key: s.KeyColumns,
				}
			}
		}
		h.tables[name] = list
	}
	return nil
}

// Record returns the history as it is to be saved, nil when it is. What no row after a confirmed position can ask for is left out.
func (h *History) Record(confirmed lsn.LSN) ([]byte, uint64, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.changes == h.saved {
		return nil, h.changes, nil
	}
	r := historyRecord{Version: historyVersion, Kind: recordKind, Tables: map[string][]Version{}}
	for _, name := range slices.Sorted(maps.Keys(h.tables)) {
		list := h.tables[name]
		for len(list) > 1 && list[1].From.LSN < confirmed {
			list = list[1:]
		}
		h.tables[name] = list
		r.Tables[name] = list
	}
	text, err := json.Marshal(r)
	if err != nil {
		return nil, 0, fmt.Errorf("writing the schema history: %w", err)
	}
	return checksummed(text), h.changes, nil
}

func checksummed(text []byte) []byte {
	return append(fmt.Appendf(nil, "%08x ", crc32.ChecksumIEEE(text)), text...)
}

// WasSaved notes that the record with that mark is saved.
func (h *History) WasSaved(mark uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.saved = max(h.saved, mark)
}
