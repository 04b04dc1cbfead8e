// Package history keeps the shapes of all tables over the positions of the log, in the form that is saved with the checkpoint.
package history

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"sync"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/shape"
)

// History is the shapes of all tables at a position and what DDL has made of them since. It is saved before every position that
// lies after a change of it, so that a source which starts after a statement reads the rows before it with the shape that they
// were written with. It may be ahead of the saved position: what lies after the position is left out at the start and read again.
//
// The record is one line for the header, one for the base and one for each entry, each with its checksum, so that it can be
// looked at and its damage told:
//
//	crc32 {"version":1,"kind":"mysql","source":"…"}
//	crc32 {"position":"…","databases":{…}}
//	crc32 {"position":"…","changes":[…]}
type History struct {
	mu        sync.Mutex
	source    string         // guarded by mu, as are all the others
	base      shape.State    // nil when there is no history
	basePos   *gtid.Position // of base
	baseLine  []byte         // base as it is saved; nil when it has to be written again
	entries   []historyEntry // after base, in log order
	confirmed *gtid.Position // saved with certainty
	version   uint64         // counts changes
	saved     uint64         // the version that is saved
}

type historyEntry struct {
	pos     *gtid.Position
	changes []shape.Change
	line    []byte // as it is saved
}

// Kind names the source in saved checkpoints.
const Kind = "mysql"

const (
	historyVersion = 1
	// maxEntries is the number of entries from which on those before the saved position become part of the base.
	maxEntries = 128
)

type historyHeader struct {
	Version int    `json:"version"`
	Kind    string `json:"kind"`
	Source  string `json:"source"`
}

type historyBase struct {
	Position  string      `json:"position"`
	Databases shape.State `json:"databases"`
}

type historyLine struct {
	Position string         `json:"position"`
	Changes  []shape.Change `json:"changes"`
}

// errHistory tells the way out of a history that cannot be used.
var errHistory = errors.New("`deltaforge checkpoint reset-schema KEY` drops it, so that the source takes the tables as they are at its " +
	"next start")

func appendLine(dst []byte, v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return append(fmt.Appendf(dst, "%08x %s", crc32.ChecksumIEEE(data), data), '\n'), nil
}

// readLine takes a line off the front of data and reads it into v.
func readLine(data []byte, v any) (rest []byte, err error) {
	line, rest, ok := bytes.Cut(data, []byte("\n"))
	if !ok {
		return nil, errors.New("it ends in the middle")
	}
	sum, text, ok := bytes.Cut(line, []byte(" "))
	if !ok {
		return nil, errors.New("it has no checksum")
	}
	if n, err := strconv.ParseUint(string(sum), 16, 32); err != nil || uint32(n) != crc32.ChecksumIEEE(text) {
		return nil, errors.New("its checksum is wrong")
	}
	return rest, json.Unmarshal(text, v)
}

// Restore reads a saved record. Errors wrap checkpoint.ErrBroken or checkpoint.ErrIncompatible.
func (h *History) Restore(record []byte) error {
	broken := func(part string, err error) error {
		return fmt.Errorf("%w: schema history: %s: %w: %w", checkpoint.ErrBroken, part, err, errHistory)
	}
	var head historyHeader
	rest, err := readLine(record, &head)
	if err != nil {
		return broken("its header", err)
	}
	if head.Version != historyVersion || head.Kind != Kind {
		return fmt.Errorf("%w: schema history of version %d for %q, this version of deltaforge reads %d for %q: %w",
			checkpoint.ErrIncompatible, head.Version, head.Kind, historyVersion, Kind, errHistory)
	}
	var base historyBase
	baseLine := rest
	if rest, err = readLine(rest, &base); err != nil {
		return broken("its base", err)
	}
	baseLine = baseLine[:len(baseLine)-len(rest)]
	pos, err := gtid.ParsePosition(base.Position)
	if err != nil {
		return broken("its base", err)
	}
	var entries []historyEntry
	for total := bytes.Count(rest, []byte("\n")); len(rest) > 0; {
		part := fmt.Sprintf("entry %d of %d", len(entries)+1, max(total, len(entries)+1))
		var line historyLine
		before := rest
		if rest, err = readLine(rest, &line); err != nil {
			return broken(part, err)
		}
		e := historyEntry{changes: line.Changes, line: bytes.Clone(before[:len(before)-len(rest)])}
		if e.pos, err = gtid.ParsePosition(line.Position); err != nil {
			return broken(part, err)
		}
		entries = append(entries, e)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.version++
	h.saved = h.version
	h.source, h.base, h.basePos, h.baseLine, h.entries = head.Source, base.Databases, pos, bytes.Clone(baseLine), entries
	if h.base == nil {
		h.base = shape.State{}
	}
	return nil
}

// Begin starts the history with the shapes at a position.
func (h *History) Begin(source string, pos *gtid.Position, state shape.State) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.source, h.base, h.basePos, h.baseLine, h.entries, h.confirmed = source, state.Clone(), pos, nil, nil, nil
	h.version++
}

// At returns the shapes at a position, for the caller to change, or nil when there is no history. What is after the position is
// forgotten.
func (h *History) At(pos *gtid.Position) (shape.State, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.base == nil {
		return nil, nil
	}
	if !h.basePos.NotAfter(pos) {
		return nil, fmt.Errorf("%w: the schema history begins at %s and does not know the tables as they were at %s: %w",
			checkpoint.ErrIncompatible, h.basePos, pos, errHistory)
	}
	state := h.base.Clone()
	n := 0
	for ; n < len(h.entries) && h.entries[n].pos.NotAfter(pos); n++ {
		state.Apply(h.entries[n].changes)
	}
	if n < len(h.entries) {
		h.entries = h.entries[:n]
		h.version++
	}
	return state, nil
}

// Add appends what a statement has changed; pos is the position after its transaction.
func (h *History) Add(pos *gtid.Position, changes []shape.Change) error {
	line, err := appendLine(nil, historyLine{Position: pos.String(), Changes: changes})
	if err != nil {
		return fmt.Errorf("schema history: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.entries = append(h.entries, historyEntry{pos: pos, changes: changes, line: line})
	h.version++
	return nil
}

// Record returns the history as it is to be saved, and the version that this is; false when it is saved already.
func (h *History) Record() ([]byte, uint64, bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.base == nil || h.version == h.saved {
		return nil, 0, false, nil
	}
	data, err := h.text()
	return data, h.version, err == nil, err
}

// Whole returns the history as it would be saved now, also when it is.
func (h *History) Whole() ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text()
}

func (h *History) text() ([]byte, error) {
	h.compact()
	var err error
	if h.baseLine == nil {
		if h.baseLine, err = appendLine(nil, historyBase{Position: h.basePos.String(), Databases: h.base}); err != nil {
			return nil, fmt.Errorf("schema history: %w", err)
		}
	}
	data, err := appendLine(nil, historyHeader{Version: historyVersion, Kind: Kind, Source: h.source})
	if err != nil {
		return nil, fmt.Errorf("schema history: %w", err)
	}
	data = append(data, h.baseLine...)
	for _, e := range h.entries {
		data = append(data, e.line...)
	}
	return data, nil
}

// compact makes entries part of the base once a position after them is saved: no start will be before them.
func (h *History) compact() {
	if len(h.entries) < maxEntries || h.confirmed == nil {
		return
	}
	n := 0
	for n < len(h.entries) && h.entries[n].pos.NotAfter(h.confirmed) {
		n++
	}
	if n == 0 {
		return
	}
	for _, e := range h.entries[:n] {
		h.base.Apply(e.changes)
	}
	h.basePos, h.baseLine = h.entries[n-1].pos, nil
	h.entries = append([]historyEntry(nil), h.entries[n:]...)
}

// MarkSaved says that the record of that version, as Record returned it, is saved.
func (h *History) MarkSaved(version uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.saved = max(h.saved, version)
}

// Confirm says that a position is saved: no start will be before it.
func (h *History) Confirm(pos *gtid.Position) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.confirmed = pos
}
