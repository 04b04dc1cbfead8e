package demo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// op is what happened to a row, as the letter that the envelope carries.
type op byte

const (
	opLoad   op = 'r' // it was there before the stream
	opInsert op = 'c'
	opUpdate op = 'u'
	opDelete op = 'd'
)

func ops() []op { return []op{opLoad, opInsert, opUpdate, opDelete} }

func (o op) String() string {
	switch o {
	case opLoad:
		return "load"
	case opInsert:
		return "insert"
	case opUpdate:
		return "update"
	case opDelete:
		return "delete"
	}
	return string(rune(o))
}

// tally counts rows by table and operation.
type tally map[tallyKey]int

type tallyKey struct {
	table string
	op    op
}

func (t tally) add(other tally) {
	for key, n := range other {
		t[key] += n
	}
}

func (t tally) total() (n int) {
	for _, rows := range t {
		n += rows
	}
	return n
}

func (t tally) ofOp(o op) (n int) {
	for key, rows := range t {
		if key.op == o {
			n += rows
		}
	}
	return n
}

// row is a row by column: a string with the value's text as the envelope has it, or nil for NULL.
type row map[string]any

// The columns that the oracle knows.
const (
	columnID      = "id"
	columnVersion = "version"
)

// event is one message of a topic.
type event struct {
	table    string
	op       op
	key      string // of the record: the row's id
	id       string // event_id
	position string // of its transaction
	after    row
}

// parseEvent reads a record. An error says what is wrong with the record.
func parseEvent(topic string, key, value []byte) (event, error) {
	var envelope struct {
		After  map[string]any `json:"after"`
		Source struct {
			Table string `json:"table"`
		} `json:"source"`
		Op      string `json:"op"`
		EventID string `json:"event_id"`
	}
	if err := unmarshal(value, &envelope); err != nil {
		return event{}, fmt.Errorf("decoding an event of topic %s: %w; it is %s", topic, err, value)
	}
	var keyColumns map[string]any
	if err := unmarshal(key, &keyColumns); err != nil {
		return event{}, fmt.Errorf("decoding the key of event %s: %w; it is %q", envelope.EventID, err, key)
	}
	ev := event{table: envelope.Source.Table, id: envelope.EventID, key: fmt.Sprint(keyColumns[columnID])}
	ev.position = ev.id[:max(0, strings.LastIndexByte(ev.id, ':'))]
	if !strings.HasSuffix(topic, "."+ev.table) {
		return event{}, fmt.Errorf("event %s of table %s is in topic %s", ev.id, ev.table, topic)
	}
	if len(keyColumns) != 1 || keyColumns[columnID] == nil {
		return event{}, fmt.Errorf("event %s has the key %s, not the id alone", ev.id, key)
	}
	if len(envelope.Op) != 1 || !slices.Contains(ops(), op(envelope.Op[0])) {
		return event{}, fmt.Errorf("event %s of table %s has the operation %q, which the shop never does", ev.id, ev.table, envelope.Op)
	}
	ev.op = op(envelope.Op[0])
	ev.after = texts(envelope.After)
	if ev.op != opDelete && ev.after[columnID] != ev.key {
		return event{}, fmt.Errorf("event %s has the key %s and the row %v", ev.id, ev.key, ev.after)
	}
	return ev, nil
}

// unmarshal decodes exactly one JSON value and keeps the digits of numbers.
func unmarshal(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return fmt.Errorf("something follows the value")
	}
	return nil
}

// texts turns decoded JSON into a row.
func texts(columns map[string]any) row {
	r := make(row, len(columns))
	for name, v := range columns {
		if v == nil {
			r[name] = nil
			continue
		}
		r[name] = fmt.Sprint(v)
	}
	return r
}

// maxFaults is how many faults are kept word for word.
const maxFaults = 10

// replay rebuilds the tables out of events and notes every event that cannot be right where it stands. Each row has a version
// that its insert sets to 1 and each update raises by 1, and no id is used twice: so a lost, repeated or misplaced event shows.
type replay struct {
	tables map[string]map[string]row // by table and key
	counts tally
	faults []string // the first maxFaults
	failed int      // number of faults
}

func newReplay() *replay {
	return &replay{tables: map[string]map[string]row{}, counts: tally{}}
}

func (r *replay) fault(format string, args ...any) {
	r.failed++
	if len(r.faults) < maxFaults {
		r.faults = append(r.faults, fmt.Sprintf(format, args...))
	}
}

func (r *replay) apply(ev event) {
	r.counts[tallyKey{ev.table, ev.op}]++
	rows := r.tables[ev.table]
	if rows == nil {
		rows = map[string]row{}
		r.tables[ev.table] = rows
	}
	old, known := rows[ev.key]
	switch {
	case (ev.op == opInsert || ev.op == opLoad) && known:
		r.fault("event %s is the %s of %s %s, which is there already", ev.id, ev.op, ev.table, ev.key)
	case (ev.op == opInsert || ev.op == opLoad) && ev.after[columnVersion] != "1":
		r.fault("event %s is the %s of version %v of %s %s", ev.id, ev.op, ev.after[columnVersion], ev.table, ev.key)
	case ev.op != opInsert && ev.op != opLoad && !known:
		r.fault("event %s is the %s of %s %s, which is not there", ev.id, ev.op, ev.table, ev.key)
	case ev.op == opUpdate && !follows(old[columnVersion], ev.after[columnVersion]):
		r.fault("event %s brings version %v of %s %s after version %v", ev.id, ev.after[columnVersion], ev.table, ev.key, old[columnVersion])
	}
	if ev.op == opDelete {
		delete(rows, ev.key)
		return
	}
	rows[ev.key] = ev.after
}

// follows reports whether two versions are neighbours.
func follows(before, after any) bool {
	var a, b int
	_, err1 := fmt.Sscan(fmt.Sprint(before), &a)
	_, err2 := fmt.Sscan(fmt.Sprint(after), &b)
	return err1 == nil && err2 == nil && b == a+1
}

// compare returns what differs between the database and the events: nothing when every row arrived once, in order and
// unchanged. written is what was committed, tables is what the database holds now.
func compare(written tally, tables map[string]map[string]row, r *replay) []string {
	diffs := slices.Clone(r.faults)
	if more := r.failed - len(r.faults); more > 0 {
		diffs = append(diffs, fmt.Sprintf("and %d more events like these", more))
	}
	keys := slices.Collect(maps.Keys(written))
	for key := range r.counts {
		if _, ok := written[key]; !ok {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b tallyKey) int {
		return 2*strings.Compare(a.table, b.table) + strings.Compare(a.op.String(), b.op.String())
	})
	for _, key := range keys {
		if w, got := written[key], r.counts[key]; w != got {
			diffs = append(diffs, fmt.Sprintf("%s: %d rows written by %s, %d events received", key.table, w, key.op, got))
		}
	}
	names := slices.Collect(maps.Keys(tables))
	for name := range r.tables {
		if _, ok := tables[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		diffs = append(diffs, compareTable(name, tables[name], r.tables[name])...)
	}
	return diffs
}

// compareTable compares a table with its replay. It shows at most a few rows.
func compareTable(name string, want, got map[string]row) []string {
	const show = 3
	var diffs []string
	differ := 0
	note := func(format string, args ...any) {
		if differ++; differ <= show {
			diffs = append(diffs, fmt.Sprintf(format, args...))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		replayed, ok := got[key]
		switch {
		case !ok:
			note("%s %s is in the table, not in the replayed events", name, key)
		case !maps.Equal(want[key], replayed):
			note("%s %s is %v in the table, %v in the replayed events", name, key, want[key], replayed)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[key]; !ok {
			note("%s %s is in the replayed events, not in the table", name, key)
		}
	}
	if differ > show {
		diffs = append(diffs, fmt.Sprintf("and %d more rows of %s", differ-show, name))
	}
	return diffs
}
