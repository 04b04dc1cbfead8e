package postgrescdc

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/publication"
	"github.com/deltaforge/deltaforge/internal/change"
)

// relation is one version of a table's shape, with what decoding its rows needs. It is immutable.
type relation struct {
	table    *change.Table
	captured bool // the table is one of ours
	types    []*typeInfo
	// identity marks the columns of the replica identity: the ones that a key tuple carries.
	identity []bool
	// names is the size of all column names in JSON, to size buffers with.
	names int

	msg relationMsg // what the relation was made from

	// Of the reading goroutine, for a table with composites: the transactions that the relation holds for, by the position of their
	// commit.
	composites  map[uint32]*shape // by pg_class OID; nil: in doubt
	from, until LSN
}

// schemas turns Relation messages into tables. It outlives sessions, so that a reconnect is no schema change. One session
// uses it at a time.
type schemas struct {
	source   *change.Source
	database string
	server   string // whose positions shapes has
	filter   *publication.Filter
	values   valueOptions
	warn     func(table, column, typ string)
	changed  func(table string)

	tables map[string]*change.Table // newest shape by full name
	warned map[string]bool          // table.column:type
	types  map[typeKey]*typeInfo    // of this session
	shapes shapes

	// Of the build that is under way.
	at   LSN
	uses map[uint32]*shape
}

// reset forgets what may have changed while no session was there to notice.
func (s *schemas) reset(server string) {
	s.types = map[typeKey]*typeInfo{}
	if s.server != server {
		s.server = server
		s.shapes.reset()
	}
}

// holds reports whether the relation is right for a transaction that commits at a position.
func (r *relation) holds(at LSN) bool {
	return len(r.composites) == 0 || r.from <= at && at < r.until
}

// settle makes sure that a relation with composites is right for a transaction that commits at a position, and returns it or the one
// that is.
func (s *schemas) settle(ctx context.Context, conn *pgx.Conn, rel *relation, at LSN) (*relation, error) {
	types := slices.Collect(maps.Keys(rel.composites))
	if err := s.shapes.look(ctx, conn, types); err != nil {
		return nil, err
	}
	for relation, was := range rel.composites {
		if is, _ := s.shapes.find(relation, at); is == nil || is != was {
			return s.build(ctx, conn, rel.msg, at)
		}
	}
	rel.bound(at)
	return rel, nil
}

// bound works out which transactions the relation holds for.
func (r *relation) bound(at LSN) {
	r.from, r.until = 0, math.MaxUint64
	for _, sh := range r.composites {
		if sh == nil {
			r.from, r.until = at, at+1
			return
		}
		r.from, r.until = max(r.from, sh.from), min(r.until, sh.until)
	}
}

// build makes the relation of a message, as it is for a transaction that commits at a position. It asks the catalogue for what the
// message does not say.
func (s *schemas) build(ctx context.Context, conn *pgx.Conn, msg relationMsg, at LSN) (*relation, error) {
	s.at, s.uses = at, map[uint32]*shape{}
	rel := &relation{
		msg:      msg,
		captured: s.filter.Match(msg.schema, msg.name),
		identity: make([]bool, len(msg.columns)),
		types:    make([]*typeInfo, len(msg.columns)),
	}
	table := &change.Table{
		Source: s.source, Database: s.database, Schema: msg.schema, Name: msg.name,
		Columns: make([]change.Column, len(msg.columns)),
	}
	rel.table = table
	if !rel.captured {
		return rel, nil
	}
	attributes, err := queryAttributes(ctx, conn, msg.oid)
	if err != nil {
		return nil, err
	}
	notNull := map[string]bool{}
	for _, a := range attributes {
		notNull[a.name] = a.notNull
	}
	s.forgetCustomTypes()
	name := msg.schema + "." + msg.name // the table itself is asked for nothing before it is complete: it derives what it says only once
	for i, col := range msg.columns {
		t, err := s.typeOf(ctx, conn, typeKey{col.typ, col.typmod}, 0)
		if err != nil {
			return nil, fmt.Errorf("column %s of %s: %w", col.name, name, err)
		}
		if t.unlisted {
			s.warnOnce(name, col.name, t.text)
		}
		rel.types[i], rel.identity[i] = t, col.key
		rel.names += len(col.name) + 4
		table.Columns[i] = t.column(col.name, !notNull[col.name])
	}
	if table.Key, err = s.key(ctx, conn, msg, attributes); err != nil {
		return nil, err
	}
	s.remember(rel)
	if len(s.uses) > 0 {
		rel.composites = s.uses
		rel.bound(at)
	}
	return rel, nil
}

// remember replaces the relation's table by the one we have when the shape is the same, and reports a shape that is not.
func (s *schemas) remember(rel *relation) {
	name := rel.table.FullName()
	known := s.tables[name]
	if known != nil && known.Fingerprint() == rel.table.Fingerprint() {
		rel.table = known
		return
	}
	if known != nil {
		s.changed(name)
	}
	s.tables[name] = rel.table
}

// key returns the indexes of the columns that identify a row. Under the default replica identity the message itself says
// what the primary key was when the row was written; the catalogue knows only what it is now.
//
// Under another identity the catalogue's names are looked for in the message; a key of which one is not there may have been renamed since,
// so it is looked for by the places of its columns, if these have the same types.
func (s *schemas) key(ctx context.Context, conn *pgx.Conn, msg relationMsg, attributes []attribute) ([]int, error) {
	if msg.identity == 'd' {
		var key []int
		for i, col := range msg.columns {
			if col.key {
				key = append(key, i)
			}
		}
		if key != nil {
			return key, nil
		}
	}
	keys, err := queryKeys(ctx, conn, msg.oid)
	if err != nil {
		return nil, err
	}
	for _, names := range keys {
		key := make([]int, 0, len(names))
		for i, col := range msg.columns {
			if slices.Contains(names, col.name) {
				key = append(key, i)
			}
		}
		if len(key) == len(names) {
			return key, nil
		}
		if samePlaces(msg.columns, attributes) {
			key = key[:0]
			for i, a := range attributes {
				if slices.Contains(names, a.name) {
					key = append(key, i)
				}
			}
			return key, nil
		}
	}
	return nil, nil
}

// samePlaces reports whether a table's columns, whatever their names, are those of a message.
func samePlaces(columns []relationColumn, attributes []attribute) bool {
	return slices.EqualFunc(columns, attributes, func(c relationColumn, a attribute) bool { return c.typ == a.typ && c.typmod == a.typmod })
}

func (s *schemas) warnOnce(table, column, typ string) {
	id := table + "." + column + ":" + typ
	if !s.warned[id] {
		s.warned[id] = true
		s.warn(table, column, typ)
	}
}

// firstCustomOID is the first OID that is not the server's own (FirstNormalObjectId).
const firstCustomOID = 16384

// forgetCustomTypes drops the types that DDL can change.
func (s *schemas) forgetCustomTypes() {
	for k := range s.types {
		if k.oid >= firstCustomOID {
			delete(s.types, k)
		}
	}
}

// maxTypeDepth bounds domains over composites over arrays over domains.
const maxTypeDepth = 32

// typeOf explains a type, with the catalogue's help when it is new to this session.
func (s *schemas) typeOf(ctx context.Context, conn *pgx.Conn, key typeKey, depth int) (*typeInfo, error) {
	if t := s.types[key]; t != nil {
		return t, nil
	}
	if depth > maxTypeDepth {
		return nil, fmt.Errorf("type %d: nested deeper than %d", key.oid, maxTypeDepth)
	}
	row, ok, err := queryType(ctx, conn, key.oid, key.typmod)
	if err != nil {
		return nil, err
	}
	t := &typeInfo{codec: codecText, text: row.text, unlisted: true, digits: -1}
	if !ok {
		t.codec, t.text, t.unlisted = codecGone, fmt.Sprintf("oid %d", key.oid), false
		s.types[key] = t
		return t, nil
	}
	switch {
	case row.kind == "d":
		baseMod := row.baseMod
		if baseMod < 0 {
			baseMod = key.typmod
		}
		base, err := s.typeOf(ctx, conn, typeKey{row.base, baseMod}, depth+1)
		if err != nil {
			return nil, err
		}
		*t = *base
		t.text = row.text
	case row.kind == "c":
		if err := s.composite(ctx, conn, t, row.relation, depth); err != nil {
			return nil, err
		}
	case row.kind == "e", row.kind == "r", row.kind == "m":
		t.unlisted = false
	case t.scalar(key, row.name):
		if s.values.quoteBigint && (t.logical == change.LogicalInt64 || t.logical == change.LogicalUint64) {
			t.codec = codecDigits
		}
	case row.category == "A" && row.elem != 0:
		elem, err := s.typeOf(ctx, conn, typeKey{row.elem, key.typmod}, depth+1)
		if err != nil {
			return nil, err
		}
		t.codec, t.logical, t.elem, t.unlisted = codecArray, change.LogicalArray, elem, elem.unlisted
		t.delimiter = ','
		if len(row.delimiter) == 1 {
			t.delimiter = row.delimiter[0]
		}
	}
	s.types[key] = t
	return t, nil
}

// composite explains a composite type as it was for the transaction that the build is for. Where that is in doubt, it has the fields
// that the type has now, and its values are told apart by the number of theirs.
func (s *schemas) composite(ctx context.Context, conn *pgx.Conn, t *typeInfo, relation uint32, depth int) error {
	if sure, _ := s.shapes.find(relation, s.at); sure == nil {
		if err := s.shapes.look(ctx, conn, []uint32{relation}); err != nil {
			return err
		}
	}
	sure, maybe := s.shapes.find(relation, s.at)
	s.uses[relation] = sure
	t.codec, t.logical, t.unlisted = codecComposite, change.LogicalObject, false
	if sure != nil {
		return s.fields(ctx, conn, t, sure.attributes, depth)
	}
	for _, attributes := range maybe {
		m := &typeInfo{codec: codecComposite}
		if err := s.fields(ctx, conn, m, attributes, depth); err != nil {
			return err
		}
		t.maybe = append(t.maybe, m)
	}
	t.codec = codecAltered
	return s.fields(ctx, conn, t, s.shapes.newest(relation), depth)
}

func (s *schemas) fields(ctx context.Context, conn *pgx.Conn, t *typeInfo, attributes []attributeState, depth int) error {
	for _, a := range attributes {
		if a.dropped {
			continue
		}
		f, err := s.typeOf(ctx, conn, typeKey{a.typ, a.typmod}, depth+1)
		if err != nil {
			return err
		}
		t.fields = append(t.fields, field{name: a.name, typ: f})
		t.unlisted = t.unlisted || f.unlisted
	}
	return nil
}
