package chunk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/row"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

var _ snapshot.Form = (*row.Query)(nil)

// readKeys reads the rows with the keys of events.
func (r *reader) readKeys(ctx context.Context, t *table, c snapshot.Chunk, add snapshot.Add) (snapshot.End, error) {
	key := t.rel.Table.Key
	if len(t.key) == 0 {
		return snapshot.End{}, fmt.Errorf("the table has no key any more: %w", snapshot.ErrAnew)
	}
	for _, values := range c.Keys {
		if len(values) != len(key) {
			return snapshot.End{}, fmt.Errorf("a key of %d values, where the table's has %d now: %w", len(values), len(key), snapshot.ErrAnew)
		}
	}
	if slices.ContainsFunc(key, func(column int) bool { return !printed(&t.rel.Table.Columns[column]) }) {
		return snapshot.End{}, r.readAllFor(ctx, t, c, add)
	}
	var p params
	arrays, names, conditions := make([]string, len(t.key)), make([]string, len(t.key)), make([]string, len(t.key))
	for i := range t.key {
		k := &t.key[i]
		var list []byte
		for _, values := range c.Keys {
			text, err := textOf(&t.rel.Table.Columns[k.column], values[slices.Index(key, k.column)])
			if err != nil {
				return snapshot.End{}, fmt.Errorf("key column %s: %w", k.name, err)
			}
			list = appendElement(list, text)
		}
		names[i] = fmt.Sprintf("k%d", i)
		arrays[i] = p.add(append(list, '}')) + "::text[]"
		conditions[i] = k.sql() + " " + k.equal + " deltaforge_keys." + names[i] + "::" + k.typ
	}
	sql := "SELECT " + t.columns + " FROM unnest(" + strings.Join(arrays, ", ") + ") AS deltaforge_keys (" + strings.Join(names, ", ") + ") JOIN " +
		t.from() + " ON " + strings.Join(conditions, " AND ") + t.where(c)
	err := r.query(ctx, sql, p, t.result(c, add))
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && strings.HasPrefix(pg.Code, classData) { // the key has another type now
		err = fmt.Errorf("%w: %w", snapshot.ErrKey, err)
	}
	return snapshot.End{}, err
}

// printed reports whether the values of a column are what the server prints, so that it can be asked for them.
func printed(c *change.Column) bool {
	switch c.Logical {
	case change.LogicalArray, change.LogicalObject, change.LogicalMap, change.LogicalGeometry:
		return false
	default:
		return true
	}
}

// readAllFor reads the whole table, and keeps the rows with some keys: those of arrays and composites, which have no text any more.
func (r *reader) readAllFor(ctx context.Context, t *table, c snapshot.Chunk, add snapshot.Add) error {
	res := t.result(c, add)
	res.keys = &keySet{columns: t.rel.Table.Key, keys: map[string]bool{}}
	for _, values := range c.Keys {
		res.keys.keys[string(appendKey(nil, values))] = true
	}
	return r.query(ctx, t.selectFrom()+t.where(c), nil, res)
}

// keySet is a set of keys.
type keySet struct {
	columns []int
	keys    map[string]bool
	values  []change.Value
	buf     []byte
}

func (s *keySet) has(row []change.Value) bool {
	s.values = s.values[:0]
	for _, column := range s.columns {
		s.values = append(s.values, row[column])
	}
	s.buf = appendKey(s.buf[:0], s.values)
	return s.keys[string(s.buf)]
}

func appendKey(dst []byte, values []change.Value) []byte {
	for _, v := range values {
		dst = append(envelope.AppendValue(dst, v), ',')
	}
	return dst
}

// result takes the rows of a chunk.
type result struct {
	t    *table
	d    *row.Query
	add  snapshot.Add
	raw  snapshot.Raw
	rows int
	last []byte // the body of the newest row
	keys *keySet
	// limit is how many rows are taken, and more says that there was one after them; 0: all are taken.
	limit int
	more  bool
}

func (t *table) result(c snapshot.Chunk, add snapshot.Add) *result {
	return &result{t: t, d: row.NewQuery(t.rel, t.trust), add: add, raw: c.Raw}
}

func (res *result) row(body []byte) error {
	if res.limit > 0 && res.rows == res.limit {
		res.more = true
		return nil
	}
	if res.raw != nil && res.keys == nil {
		if err := res.raw(res.t.rel.Table, body, res.d); err != nil {
			return err
		}
	} else {
		values, inexact, err := res.d.Row(body)
		if err != nil {
			return err
		}
		if res.keys != nil && !res.keys.has(values) {
			return nil
		}
		res.add(res.t.rel.Table, values, inexact)
	}
	res.rows++
	res.last = body
	return nil
}
