package postgrescdc

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
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/coordinator"
)

// history is the shapes that the captured tables have had, each from the first row of which the log said so. What a table was before
// a row depends on nothing but the rows before it, so a row that is read again finds the same. It is saved with the checkpoint when
// changes of shapes are events: what a session's first Relation message says of a table is news only against that.
type history struct {
	mu      sync.Mutex
	tables  map[string][]tableVersion // by full name, oldest first; guarded by mu, as are the others
	changes uint64
	saved   uint64
}

// place is that of a row: its transaction's, and its number in it.
type place struct {
	LSN   LSN    `json:"lsn"`
	Index uint64 `json:"index"`
}

func (p place) before(q place) bool { return p.LSN < q.LSN || p.LSN == q.LSN && p.Index < q.Index }

// tableVersion is a shape of the table of one name.
type tableVersion struct {
	From place  `json:"from"`
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

// versionOf is what a Relation message makes of a table.
func versionOf(msg relationMsg, t *change.Table, at place) tableVersion {
	v := tableVersion{From: at, OID: msg.oid, Table: keep(t)}
	var columns, key []byte
	for _, c := range msg.columns {
		columns = fmt.Appendf(columns, "%q %d %d\n", c.name, c.typ, c.typmod)
		if c.key {
			key = fmt.Appendf(key, "%q\n", c.name)
		}
	}
	v.Columns = string(columns)
	if msg.identity == 'd' {
		v.Key = "d\n" + string(key)
	}
	return v
}

// same reports whether the log says the same of both.
func (v *tableVersion) same(w *tableVersion) bool {
	return v.Table != nil && v.OID == w.OID && v.Columns == w.Columns && (v.Key == w.Key || v.Key == "" || w.Key == "")
}

// last returns the version that the table of a name had before a place, nil when none is known.
func (h *history) last(name string, at place) *tableVersion {
	list := h.tables[name]
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].From.before(at) {
			return &list[i]
		}
	}
	return nil
}

// at returns the version that begins at a place, from when the row there was read before.
func (h *history) at(name string, at place) *tableVersion {
	for i := range h.tables[name] {
		if v := &h.tables[name][i]; v.From == at {
			return v
		}
	}
	return nil
}

// see takes the shape that a table has for a row, and returns what has changed since the rows before: nothing for a table that was not
// seen before. A table that has another name than before is the end of the one and the beginning of the other.
func (h *history) see(v tableVersion) (changes []*change.SchemaChange) {
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
		h.put(from, tableVersion{From: v.From, OID: v.OID})
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
func (h *history) renamed(name string, v *tableVersion) (string, *tableVersion) {
	for other := range h.tables {
		if was := h.last(other, v.From); other != name && was != nil && was.OID == v.OID && was.Table != nil {
			return other, was
		}
	}
	return "", nil
}

// put adds a version, in place of what was there when the row was read the last time.
func (h *history) put(name string, v tableVersion) {
	list := slices.DeleteFunc(h.tables[name], func(w tableVersion) bool { return w.From == v.From })
	i, _ := slices.BinarySearchFunc(list, v.From, func(w tableVersion, at place) int {
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

type historyRecord struct {
	Version int                       `json:"version"`
	Kind    string                    `json:"kind"`
	Tables  map[string][]tableVersion `json:"tables"`
}

// errHistory tells the way out of a history that cannot be used.
var errHistory = errors.New("`deltaforge checkpoint reset-schema KEY` drops it, so that changes of shapes are told from what the next rows show")

// restore reads a saved record.
func (h *history) restore(record []byte, source *change.Source, database string) error {
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
	if r.Version != historyVersion || r.Kind != connector {
		return fmt.Errorf("%w: schema history of version %d for %q, this version of deltaforge reads %d for %q: %w",
			checkpoint.ErrIncompatible, r.Version, r.Kind, historyVersion, connector, errHistory)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tables = map[string][]tableVersion{}
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

// record returns the history as it is to be saved, nil when it is. What no row after a confirmed position can ask for is left out.
func (h *history) record(confirmed LSN) ([]byte, uint64, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.changes == h.saved {
		return nil, h.changes, nil
	}
	r := historyRecord{Version: historyVersion, Kind: connector, Tables: map[string][]tableVersion{}}
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

func (h *history) wasSaved(mark uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.saved = max(h.saved, mark)
}

var _ coordinator.Historian = (*replication)(nil)

// Restore implements coordinator.Historian.
func (r *replication) Restore(record []byte) error {
	if !r.cfg.schemaChanges {
		return nil
	}
	return r.history.restore(record, r.schemas.source, r.schemas.database)
}

// Record implements coordinator.Historian.
func (r *replication) Record() (record []byte, mark uint64, err error) {
	if !r.cfg.schemaChanges {
		return nil, 0, nil
	}
	return r.history.record(LSN(r.confirmed.Load()))
}

// Saved implements coordinator.Historian.
func (r *replication) Saved(mark uint64) { r.history.wasSaved(mark) }
