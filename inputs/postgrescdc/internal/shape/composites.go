package shape

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/catalog"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
)

// The log does not tell when ALTER TYPE changes a composite, and a value in it has no names. So the catalogue is looked at over and
// over, and each look is tied to positions in the log: what two looks found the same was so for every transaction that committed
// between them. A transaction between two looks that differ is in doubt, unless the number of its value's fields says enough.

// composites knows which fields composite types had at which position. The goroutine of the catalogue owns it.
type composites struct {
	slot  string
	known map[uint32][]*shape // by pg_class OID, oldest first
}

// maxShapes is how many shapes of one type are remembered. One is made by each ALTER TYPE that a look comes after.
const maxShapes = 64

// shape is what a composite type was for all transactions that commit from one position until another. Between the looks at
// the catalogue that found it first and last there was no other; from is above until as long as there was only one look.
type shape struct {
	attributes  []attributeState // with those that were dropped
	from, until lsn.LSN
}

// attributeState is an attribute, and what its row in the catalogue says of its past.
type attributeState struct {
	catalog.Attribute
	number  int16
	version string // of the row: another one after every ALTER
	dropped bool
	// settled says that the row is older than everything the slot still has to send.
	settled bool
	// untouched says that the row is as it was when the type was made; added, as when the newest attribute was added to it.
	untouched, added bool
}

// reset forgets everything when the positions are those of another server.
func (h *composites) reset() { h.known = map[uint32][]*shape{} }

// all returns the types that are known.
func (h *composites) all() []uint32 {
	list := make([]uint32, 0, len(h.known))
	for relation := range h.known {
		list = append(list, relation)
	}
	return list
}

// An ALTER TYPE that is committing may have written its commit record while nobody can see its effect yet.
const (
	committingTries = 5
	committingPause = 20 * time.Millisecond
)

// look asks the catalogue about the types. Every transaction that has been received until now committed before the look.
func (h *composites) look(ctx context.Context, conn *pgx.Conn, types []uint32) error {
	if len(types) == 0 {
		return nil
	}
	for try := range committingTries {
		if try > 0 {
			if err := sleep(ctx, committingPause); err != nil {
				return err
			}
		}
		l, err := queryShapes(ctx, conn, h.slot, types)
		if err != nil {
			return err
		}
		for relation, attributes := range l.types {
			if !slices.Contains(l.busy, relation) {
				h.saw(relation, attributes, l)
			}
		}
		if len(l.busy) == 0 {
			break
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// saw adds what a look has found.
func (h *composites) saw(relation uint32, attributes []attributeState, l *look) {
	list := h.known[relation]
	if n := len(list); n > 0 && sameShape(list[n-1].attributes, attributes) {
		list[n-1].attributes, list[n-1].until = attributes, max(list[n-1].until, l.before)
	} else {
		list = append(list, &shape{attributes: attributes, from: l.after, until: l.before})
	}
	if newest := list[len(list)-1]; always(attributes) {
		newest.from = 0
		list = []*shape{newest}
	}
	h.known[relation] = list[max(0, len(list)-maxShapes):]
}

// sameShape reports whether no ALTER came between two looks.
func sameShape(a, b []attributeState) bool {
	return slices.EqualFunc(a, b, func(x, y attributeState) bool {
		return x.Attribute == y.Attribute && x.number == y.number && x.version == y.version && x.dropped == y.dropped
	})
}

// always reports whether everything that is still to be received has this shape, or comes after it.
func always(attributes []attributeState) bool {
	all := func(is func(attributeState) bool) bool {
		return !slices.ContainsFunc(attributes, func(a attributeState) bool { return !is(a) })
	}
	return all(func(a attributeState) bool { return a.settled }) || all(func(a attributeState) bool { return a.untouched })
}

// newest returns what the last look found, of the type as it is now.
func (h *composites) newest(relation uint32) []attributeState {
	if list := h.known[relation]; len(list) > 0 {
		return list[len(list)-1].attributes
	}
	return nil
}

// find returns the shape that the type had for a transaction that committed at a position. When that is in doubt it is nil, and the
// shapes that it can be recognised as by the number of fields are there instead.
func (h *composites) find(relation uint32, at lsn.LSN) (sure *shape, maybe [][]attributeState) {
	list := h.known[relation]
	for _, l := range slices.Backward(list) {
		if s := l; s.from <= at && at < s.until {
			return s, nil
		}
	}
	if len(list) == 0 || list[len(list)-1].until <= at {
		return nil, nil
	}
	newest := list[len(list)-1].attributes
	var before []attributeState
	for _, s := range list {
		if s.from <= at {
			before = s.attributes
		}
	}
	var kept, changed []attributeState
	for _, a := range newest {
		known := slices.ContainsFunc(before, func(b attributeState) bool { return b.number == a.number && b.version == a.version })
		switch {
		case !known && !a.settled && !a.untouched:
			changed = append(changed, a)
		case !a.dropped:
			kept = append(kept, a)
		}
	}
	// None of the changed ones is there in a value with as many fields as were kept.
	maybe = [][]attributeState{kept}
	if len(changed) == 1 && changed[0].added && !changed[0].dropped {
		maybe = append(maybe, append(slices.Clone(kept), changed[0]))
	}
	return nil, maybe
}

// look is what one look has found.
type look struct {
	before, after lsn.LSN // positions before and after it
	busy          []uint32
	types         map[uint32][]attributeState
}

// The order matters: the position; then what is being altered, which is locked until everybody sees it; then what can be seen; and
// the position again.
const (
	queryBefore = `SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END)::text`
	queryBusy   = `SELECT coalesce(array_agg(DISTINCT l.relation), '{}') FROM pg_catalog.pg_locks l
		LEFT JOIN pg_catalog.pg_stat_activity a USING (pid)
		WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.granted AND l.relation = ANY ($1::oid[])
		AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
		AND a.state IS DISTINCT FROM 'idle in transaction'`
	queryFields = `SELECT c.oid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attisdropped, a.xmin::text,
			s.catalog_xmin IS NOT NULL AND (age(a.xmin) < 0 OR age(a.xmin) > age(s.catalog_xmin)),
			coalesce(d.xmin = a.xmin AND d.cmin = a.cmin, e.xmin = a.xmin AND e.cmin = a.cmin, false), c.xmin = a.xmin AND c.cmin = a.cmin AND a.attnum = c.relnatts
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
		LEFT JOIN pg_catalog.pg_depend d ON d.deptype = 'i' AND d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid
			AND d.objsubid = 0 AND d.refclassid = 'pg_catalog.pg_type'::regclass AND d.refobjid = c.reltype
		LEFT JOIN pg_catalog.pg_depend e ON e.deptype = 'i' AND e.classid = 'pg_catalog.pg_type'::regclass AND e.objid = c.reltype
			AND e.objsubid = 0 AND e.refclassid = 'pg_catalog.pg_class'::regclass AND e.refobjid = c.oid
		LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = $2
		WHERE c.oid = ANY ($1::oid[]) ORDER BY c.oid, a.attnum`
	queryAfter = `SELECT (CASE WHEN pg_is_in_recovery() THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
		ELSE pg_current_wal_insert_lsn() END)::text`
)

func queryShapes(ctx context.Context, conn *pgx.Conn, slot string, types []uint32) (*look, error) {
	l := &look{types: map[uint32][]attributeState{}}
	position := func(to *lsn.LSN) func(pgx.Row) error {
		return func(row pgx.Row) error {
			var text string
			err := row.Scan(&text)
			if err == nil {
				*to, err = lsn.ParseServer(text)
			}
			return err
		}
	}
	var batch pgx.Batch
	batch.Queue(queryBefore).QueryRow(position(&l.before))
	batch.Queue(queryBusy, types).QueryRow(func(row pgx.Row) error { return row.Scan(&l.busy) })
	batch.Queue(queryFields, types, slot).Query(func(rows pgx.Rows) error {
		var relation uint32
		var a attributeState
		_, err := pgx.ForEachRow(rows, []any{
			&relation, &a.number, &a.Name, &a.Typ, &a.Typmod, &a.dropped, &a.version, &a.settled, &a.untouched, &a.added,
		}, func() error {
			l.types[relation] = append(l.types[relation], a)
			return nil
		})
		return err
	})
	batch.Queue(queryAfter).QueryRow(position(&l.after))
	if err := conn.SendBatch(ctx, &batch).Close(); err != nil {
		return nil, fmt.Errorf("looking up the fields of composite types: %w", err)
	}
	return l, nil
}

// quietTime is how long a composite must not be used before and after an ALTER TYPE that is not to leave values in doubt: the catalogue is
// looked at twice in it.
const quietTime = 2*catalog.EndInterval + committingTries*committingPause
