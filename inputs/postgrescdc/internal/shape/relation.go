// Package shape is what tables look like: the message that announces one, and what the catalogue says beside it.
package shape

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/catalog"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/pgoutput"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/publication"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/value"
	"github.com/deltaforge/deltaforge/internal/change"
)

// Relation is one version of a table's shape, with what decoding its rows needs. It is immutable.
type Relation struct {
	Table    *change.Table
	Captured bool // the table is one of ours
	Types    []*value.Type
	// Identity marks the columns of the replica identity: the ones that a key tuple carries.
	Identity []bool
	// Names is the size of all column names in JSON, to size buffers with.
	Names int

	Msg pgoutput.Relation // what the relation was made from

	// Of the reading goroutine, for a table with composites: the transactions that the relation holds for, by the position of their
	// commit.
	composites  map[uint32]*shape // by pg_class OID; nil: in doubt
	from, until lsn.LSN
}

// MessageRelation returns the relation of logical messages.
func MessageRelation(table *change.Table) *Relation {
	return &Relation{Table: table, Captured: true, Types: make([]*value.Type, 2)}
}

// Settings are what the tables of a source have in common.
type Settings struct {
	Source   *change.Source
	Database string
	Slot     string
	Filter   *publication.Filter
	Values   value.Options
	// Present says that relations are for what a query returns: composite types are as the catalogue has them when a relation is made.
	Present bool
	// Warn is told of a column whose type is delivered as the database prints it, once.
	Warn func(table, column, typ string)
	// Changed is told of a table whose shape is another one than before.
	Changed func(table string)
}

// New returns the schemas of a source that has not read anything yet.
func New(s Settings) *Schemas {
	return &Schemas{
		Settings: s, tables: map[string]*change.Table{}, warned: map[string]bool{}, types: map[value.Key]*value.Type{},
		shapes: composites{slot: s.Slot, known: map[uint32][]*shape{}},
	}
}

// Schemas turns Relation messages into tables. It outlives sessions, so that a reconnect is no schema change. One session
// uses it at a time.
type Schemas struct {
	Settings

	server string                    // whose positions shapes has
	tables map[string]*change.Table  // newest shape by full name
	warned map[string]bool           // table.column:type
	types  map[value.Key]*value.Type // of this session
	shapes composites

	// Of the build that is under way.
	at   lsn.LSN
	uses map[uint32]*shape
}

// Reset forgets what may have changed while no session was there to notice.
func (s *Schemas) Reset(server string) {
	s.types = map[value.Key]*value.Type{}
	if s.server != server {
		s.server = server
		s.shapes.reset()
	}
}

// Watch looks at all composite types that are known. Called from the catalogue's goroutine, now and then.
func (s *Schemas) Watch(ctx context.Context, conn *pgx.Conn) {
	_ = s.shapes.look(ctx, conn, s.shapes.all()) // whoever needs a look takes one
}

// Holds reports whether the relation is right for a transaction that commits at a position.
func (r *Relation) Holds(at lsn.LSN) bool {
	return len(r.composites) == 0 || r.from <= at && at < r.until
}

// Settle makes sure that a relation with composites is right for a transaction that commits at a position, and returns it or the one
// that is.
func (s *Schemas) Settle(ctx context.Context, conn *pgx.Conn, rel *Relation, at lsn.LSN) (*Relation, error) {
	types := slices.Collect(maps.Keys(rel.composites))
	if err := s.shapes.look(ctx, conn, types); err != nil {
		return nil, err
	}
	for relation, was := range rel.composites {
		if is, _ := s.shapes.find(relation, at); is == nil || is != was {
			return s.Build(ctx, conn, rel.Msg, at)
		}
	}
	rel.bound(at)
	return rel, nil
}

// Still reports whether the composite types of a relation that was made for a query are as they were then.
func (s *Schemas) Still(ctx context.Context, conn *pgx.Conn, rel *Relation) (bool, error) {
	if len(rel.composites) == 0 {
		return true, nil
	}
	now, err := queryShapes(ctx, conn, s.Slot, slices.Collect(maps.Keys(rel.composites)))
	if err != nil {
		return false, err
	}
	for relation, was := range rel.composites {
		if slices.Contains(now.busy, relation) || !sameShape(was.attributes, now.types[relation]) {
			return false, nil
		}
	}
	return true, nil
}

// bound works out which transactions the relation holds for.
func (r *Relation) bound(at lsn.LSN) {
	r.from, r.until = 0, math.MaxUint64
	for _, sh := range r.composites {
		if sh == nil {
			r.from, r.until = at, at+1
			return
		}
		r.from, r.until = max(r.from, sh.from), min(r.until, sh.until)
	}
}

// Build makes the relation of a message, as it is for a transaction that commits at a position. It asks the catalogue for what the
// message does not say.
func (s *Schemas) Build(ctx context.Context, conn *pgx.Conn, msg pgoutput.Relation, at lsn.LSN) (*Relation, error) {
	s.at, s.uses = at, map[uint32]*shape{}
	rel := &Relation{
		Msg:      msg,
		Captured: s.Filter.Match(msg.Schema, msg.Name),
		Identity: make([]bool, len(msg.Columns)),
		Types:    make([]*value.Type, len(msg.Columns)),
	}
	table := &change.Table{
		Source: s.Source, Database: s.Database, Schema: msg.Schema, Name: msg.Name,
		Columns: make([]change.Column, len(msg.Columns)),
	}
	rel.Table = table
	if !rel.Captured {
		return rel, nil
	}
	attributes, err := catalog.QueryAttributes(ctx, conn, msg.OID)
	if err != nil {
		return nil, err
	}
	now := map[string]catalog.Attribute{}
	for _, a := range attributes {
		now[a.Name] = a
	}
	s.forgetCustomTypes()
	name := msg.Schema + "." + msg.Name // the table itself is asked for nothing before it is complete: it derives what it says only once
	for i, col := range msg.Columns {
		t, err := s.typeOf(ctx, conn, value.Key{OID: col.Typ, Typmod: col.Typmod}, 0)
		if err != nil {
			return nil, fmt.Errorf("column %s of %s: %w", col.Name, name, err)
		}
		if t.Unlisted {
			s.warnOnce(name, col.Name, t.Text)
		}
		rel.Types[i], rel.Identity[i] = t, col.Key
		rel.Names += len(col.Name) + 4
		table.Columns[i] = t.Column(col.Name, !now[col.Name].NotNull)
		if a := now[col.Name]; a.Typ == col.Typ {
			table.Columns[i].Default = a.Default
		}
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
func (s *Schemas) remember(rel *Relation) {
	name := rel.Table.FullName()
	known := s.tables[name]
	if known != nil && known.Fingerprint() == rel.Table.Fingerprint() {
		rel.Table = known
		return
	}
	if known != nil {
		s.Changed(name)
	}
	s.tables[name] = rel.Table
}

// key returns the indexes of the columns that identify a row. Under the default replica identity the message itself says
// what the primary key was when the row was written; the catalogue knows only what it is now.
//
// Under another identity the catalogue's names are looked for in the message; a key of which one is not there may have been renamed since,
// so it is looked for by the places of its columns, if these have the same types.
func (s *Schemas) key(ctx context.Context, conn *pgx.Conn, msg pgoutput.Relation, attributes []catalog.Attribute) ([]int, error) {
	if msg.Identity == 'd' {
		var key []int
		for i, col := range msg.Columns {
			if col.Key {
				key = append(key, i)
			}
		}
		if key != nil {
			return key, nil
		}
	}
	keys, err := catalog.QueryKeys(ctx, conn, msg.OID)
	if err != nil {
		return nil, err
	}
	for _, names := range keys {
		key := make([]int, 0, len(names))
		for i, col := range msg.Columns {
			if slices.Contains(names, col.Name) {
				key = append(key, i)
			}
		}
		if len(key) == len(names) {
			return key, nil
		}
		if samePlaces(msg.Columns, attributes) {
			key = key[:0]
			for i, a := range attributes {
				if slices.Contains(names, a.Name) {
					key = append(key, i)
				}
			}
			return key, nil
		}
	}
	return nil, nil
}

// samePlaces reports whether a table's columns, whatever their names, are those of a message.
func samePlaces(columns []pgoutput.Column, attributes []catalog.Attribute) bool {
	return slices.EqualFunc(columns, attributes, func(c pgoutput.Column, a catalog.Attribute) bool { return c.Typ == a.Typ && c.Typmod == a.Typmod })
}

func (s *Schemas) warnOnce(table, column, typ string) {
	id := table + "." + column + ":" + typ
	if !s.warned[id] {
		s.warned[id] = true
		s.Warn(table, column, typ)
	}
}

// forgetCustomTypes drops the types that DDL can change.
func (s *Schemas) forgetCustomTypes() {
	for k := range s.types {
		if k.OID >= value.FirstCustomOID {
			delete(s.types, k)
		}
	}
}

// maxTypeDepth bounds domains over composites over arrays over domains.
const maxTypeDepth = 32

// typeOf explains a type, with the catalogue's help when it is new to this session.
func (s *Schemas) typeOf(ctx context.Context, conn *pgx.Conn, key value.Key, depth int) (*value.Type, error) {
	if t := s.types[key]; t != nil {
		return t, nil
	}
	if depth > maxTypeDepth {
		return nil, fmt.Errorf("type %d: nested deeper than %d", key.OID, maxTypeDepth)
	}
	row, ok, err := catalog.QueryType(ctx, conn, key.OID, key.Typmod)
	if err != nil {
		return nil, err
	}
	t := &value.Type{Codec: value.CodecText, Text: row.Text, Unlisted: true, Digits: -1}
	if !ok {
		t.Codec, t.Text, t.Unlisted = value.CodecGone, fmt.Sprintf("oid %d", key.OID), false
		s.types[key] = t
		return t, nil
	}
	switch {
	case row.Kind == "d":
		baseMod := row.BaseMod
		if baseMod < 0 {
			baseMod = key.Typmod
		}
		base, err := s.typeOf(ctx, conn, value.Key{OID: row.Base, Typmod: baseMod}, depth+1)
		if err != nil {
			return nil, err
		}
		*t = *base
		if t.Text = row.Text; t.Base == "" {
			t.Base = base.Text
		}
	case row.Kind == "c":
		if err := s.composite(ctx, conn, t, row.Relation, depth); err != nil {
			return nil, err
		}
	case row.Kind == "e", row.Kind == "r", row.Kind == "m":
		t.Unlisted = false
	case t.Scalar(key, row.Name):
		if s.Values.QuoteBigint && (t.Logical == change.LogicalInt64 || t.Logical == change.LogicalUint64) {
			t.Codec = value.CodecDigits
		}
	case row.Category == "A" && row.Elem != 0:
		elem, err := s.typeOf(ctx, conn, value.Key{OID: row.Elem, Typmod: key.Typmod}, depth+1)
		if err != nil {
			return nil, err
		}
		t.Codec, t.Logical, t.Elem, t.Unlisted = value.CodecArray, change.LogicalArray, elem, elem.Unlisted
		t.Delimiter = ','
		if len(row.Delimiter) == 1 {
			t.Delimiter = row.Delimiter[0]
		}
	}
	s.types[key] = t
	return t, nil
}

// composite explains a composite type as it was for the transaction that the build is for. Where that is in doubt, it has the fields
// that the type has now, and its values are told apart by the number of theirs.
func (s *Schemas) composite(ctx context.Context, conn *pgx.Conn, t *value.Type, relation uint32, depth int) error {
	if sure, _ := s.shapes.find(relation, s.at); sure == nil || s.Settings.Present {
		if err := s.shapes.look(ctx, conn, []uint32{relation}); err != nil {
			return err
		}
	}
	sure, maybe := s.shapes.find(relation, s.at)
	if s.Settings.Present {
		sure = &shape{attributes: s.shapes.newest(relation), until: math.MaxUint64}
	}
	s.uses[relation] = sure
	t.Codec, t.Logical, t.Unlisted = value.CodecComposite, change.LogicalObject, false
	if sure != nil {
		return s.fields(ctx, conn, t, sure.attributes, depth)
	}
	for _, attributes := range maybe {
		m := &value.Type{Codec: value.CodecComposite}
		if err := s.fields(ctx, conn, m, attributes, depth); err != nil {
			return err
		}
		t.Maybe = append(t.Maybe, m)
	}
	t.Codec, t.Quiet = value.CodecAltered, quietTime
	return s.fields(ctx, conn, t, s.shapes.newest(relation), depth)
}

func (s *Schemas) fields(ctx context.Context, conn *pgx.Conn, t *value.Type, attributes []attributeState, depth int) error {
	for _, a := range attributes {
		if a.dropped {
			continue
		}
		f, err := s.typeOf(ctx, conn, value.Key{OID: a.Typ, Typmod: a.Typmod}, depth+1)
		if err != nil {
			return err
		}
		t.Fields = append(t.Fields, value.Field{Name: a.Name, Typ: f})
		t.Unlisted = t.Unlisted || f.Unlisted
	}
	return nil
}
