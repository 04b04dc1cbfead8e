// Package deadletter keeps the events that an output has refused for good, until a person has looked at them: in a file of its own, in the
// order in which they came.
package deadletter

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/deltaforge/deltaforge/internal/sqlitefile"
)

// Errors of a store.
var (
	// ErrFull means that a bound is reached and nothing may be dropped.
	ErrFull = errors.New("the dead letters are full")
	// ErrNotFound means that there is no such entry.
	ErrNotFound = errors.New("no such dead letter")
)

// Entry is one event that could not be delivered.
type Entry struct {
	// ID counts the entries of a store, from 1, in the order in which they came.
	ID int64 `json:"id"`
	// Pipeline is the stream that the event belongs to; empty in run mode.
	Pipeline string `json:"pipeline,omitempty"`
	Source   string `json:"source,omitempty"`
	Table    string `json:"table,omitempty"`
	Op       string `json:"op,omitempty"`
	// EventID and Position are those of the event; empty where a message is none of a source of ours.
	EventID  string `json:"event_id,omitempty"`
	Position string `json:"position,omitempty"`
	// Kind is a word of sink_failures_total.
	Kind  string `json:"kind"`
	Error string `json:"error"`
	// Attempts is how often the event has come here.
	Attempts int       `json:"attempts"`
	FirstAt  time.Time `json:"first_at"`
	LastAt   time.Time `json:"last_at"`
	// Bytes is what the entry takes.
	Bytes int64 `json:"bytes"`

	// Payload, Metadata and Event are what the message was made of. Event is what change.Event.Marshal returns; nil for a message of
	// another source. They are not read by List.
	Payload  []byte            `json:"payload,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Event    []byte            `json:"-"`
}

// Limits bound what the entries of one pipeline take. Zero: no bound.
type Limits struct {
	Count int
	Bytes int64
	Age   time.Duration
	// DropOldest makes room by dropping the oldest entries. Without it a full store refuses new ones.
	DropOldest bool
}

// Evicted counts the entries that were dropped.
type Evicted struct{ Age, Full int }

// Numbers are what the entries of one pipeline take.
type Numbers struct {
	Entries int
	Bytes   int64
	Oldest  time.Time // zero: there is none
}

const schema = `CREATE TABLE IF NOT EXISTS dead_letters (
	id       INTEGER PRIMARY KEY AUTOINCREMENT,
	pipeline TEXT NOT NULL, source TEXT NOT NULL, tbl TEXT NOT NULL, op TEXT NOT NULL, event_id TEXT NOT NULL, position TEXT NOT NULL,
	kind TEXT NOT NULL, error TEXT NOT NULL, attempts INTEGER NOT NULL, first_at INTEGER NOT NULL, last_at INTEGER NOT NULL,
	bytes INTEGER NOT NULL, payload BLOB, metadata TEXT NOT NULL, event BLOB
);
CREATE UNIQUE INDEX IF NOT EXISTS dead_letters_event ON dead_letters (pipeline, source, event_id) WHERE event_id <> '';`

// Store is a file of dead letters. Its methods may be called from any goroutine, and the file may be open in several processes.
type Store struct {
	db   *sql.DB
	path string
	used int // guarded by open.mu
}

// open are the stores of this process, by path: the outputs of several pipelines share a file.
var open struct { //nolint:gochecknoglobals // a file is the process's
	mu     sync.Mutex
	stores map[string]*Store
}

// Open opens the file at path, and makes it when it is missing and create is set. Its folder must exist. Each Open has its Close.
func Open(ctx context.Context, path string, create bool) (*Store, error) {
	full, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("opening the dead letters in %s: %w", path, err)
	}
	open.mu.Lock()
	defer open.mu.Unlock()
	if s := open.stores[full]; s != nil {
		s.used++
		return s, nil
	}
	db, err := sqlitefile.Make(ctx, full, create, schema)
	if err != nil {
		return nil, fmt.Errorf("opening the dead letters in %s: %w", path, err)
	}
	s := &Store{db: db, path: path, used: 1}
	if open.stores == nil {
		open.stores = map[string]*Store{}
	}
	open.stores[full] = s
	return s, nil
}

// Close closes the file when nobody uses it any more.
func (s *Store) Close() error {
	open.mu.Lock()
	defer open.mu.Unlock()
	if s.used--; s.used > 0 {
		return nil
	}
	for path, other := range open.stores {
		if other == s {
			delete(open.stores, path)
		}
	}
	return s.db.Close()
}

// Keep saves entries of one pipeline, in their order, all or none. An event that is there already keeps its place; its error is
// the new one, and its attempts grow. It returns ErrFull if there is no room.
func (s *Store) Keep(ctx context.Context, pipeline string, entries []Entry, l Limits, now time.Time) (Evicted, error) {
	var out Evicted
	err := sqlitefile.InTx(ctx, s.db, func(tx *sql.Tx) (err error) {
		if out.Age, err = expire(ctx, tx, pipeline, l, now); err != nil {
			return err
		}
		for i := range entries {
			if err := keepOne(ctx, tx, pipeline, &entries[i], now); err != nil {
				return err
			}
		}
		out.Full, err = s.bound(ctx, tx, pipeline, l)
		return err
	})
	if err != nil {
		return Evicted{}, s.wrap(err)
	}
	return out, nil
}

func keepOne(ctx context.Context, tx *sql.Tx, pipeline string, e *Entry, now time.Time) error {
	metadata, err := marshalMetadata(e.Metadata)
	if err != nil {
		return err
	}
	size := int64(len(e.Payload) + len(metadata) + len(e.Event) + len(e.Error))
	_, err = tx.ExecContext(ctx, `INSERT INTO dead_letters (pipeline, source, tbl, op, event_id, position, kind, error, attempts, first_at, last_at, bytes, payload, metadata, event)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (pipeline, source, event_id) WHERE event_id <> '' DO UPDATE SET kind = excluded.kind, error = excluded.error, attempts = attempts + 1,
			last_at = excluded.last_at, bytes = excluded.bytes, payload = excluded.payload, metadata = excluded.metadata, event = excluded.event`,
		pipeline, e.Source, e.Table, e.Op, e.EventID, e.Position, e.Kind, e.Error, now.UnixMilli(), now.UnixMilli(), size, e.Payload, string(metadata), e.Event)
	return err
}

// expire drops what is too old.
func expire(ctx context.Context, tx *sql.Tx, pipeline string, l Limits, now time.Time) (int, error) {
	if l.Age <= 0 {
		return 0, nil
	}
	r, err := tx.ExecContext(ctx, `DELETE FROM dead_letters WHERE pipeline = ? AND last_at < ?`, pipeline, now.Add(-l.Age).UnixMilli())
	if err != nil {
		return 0, err
	}
	n, err := r.RowsAffected()
	return int(n), err
}

// bound makes room, or returns ErrFull.
func (s *Store) bound(ctx context.Context, tx *sql.Tx, pipeline string, l Limits) (dropped int, err error) {
	n, err := count(ctx, tx, pipeline)
	if err != nil {
		return 0, err
	}
	over := func() bool { return l.Count > 0 && n.Entries > l.Count || l.Bytes > 0 && n.Bytes > l.Bytes }
	for over() {
		if !l.DropOldest {
			return 0, fmt.Errorf("%w: %s may hold %s of the pipeline; see them with `deltaforge dlq list`, and replay or purge them", ErrFull, s.path, l)
		}
		var id, size int64
		if err := tx.QueryRowContext(ctx, `DELETE FROM dead_letters WHERE id = (SELECT min(id) FROM dead_letters WHERE pipeline = ?) RETURNING id, bytes`,
			pipeline).Scan(&id, &size); err != nil {
			return 0, err
		}
		dropped++
		n.Entries--
		n.Bytes -= size
	}
	return dropped, nil
}

// String names the bounds.
func (l Limits) String() string {
	var parts []string
	if l.Count > 0 {
		parts = append(parts, fmt.Sprintf("%d entries", l.Count))
	}
	if l.Bytes > 0 {
		parts = append(parts, fmt.Sprintf("%d bytes", l.Bytes))
	}
	return strings.Join(parts, " and ")
}

func count(ctx context.Context, tx *sql.Tx, pipeline string) (n Numbers, err error) {
	var oldest sql.NullInt64
	err = tx.QueryRowContext(ctx, `SELECT count(*), coalesce(sum(bytes), 0), min(first_at) FROM dead_letters WHERE pipeline = ?`, pipeline).
		Scan(&n.Entries, &n.Bytes, &oldest)
	if oldest.Valid {
		n.Oldest = time.UnixMilli(oldest.Int64).UTC()
	}
	return n, err
}

// Count returns what the entries of a pipeline take, after it has dropped those that are too old.
func (s *Store) Count(ctx context.Context, pipeline string, l Limits, now time.Time) (n Numbers, out Evicted, err error) {
	err = sqlitefile.InTx(ctx, s.db, func(tx *sql.Tx) (err error) {
		if out.Age, err = expire(ctx, tx, pipeline, l, now); err != nil {
			return err
		}
		n, err = count(ctx, tx, pipeline)
		return err
	})
	return n, out, s.wrap(err)
}

// Filter chooses entries.
type Filter struct {
	// Pipeline is the stream; nil: all.
	Pipeline *string
	// After is the ID after which they begin.
	After int64
	// IDs are the entries themselves; none: all.
	IDs []int64
	// Table, Kind: empty is any.
	Table, Kind string
	// Limit is how many at most; 0: all.
	Limit int
}

func (f Filter) where() (text string, args []any) {
	text, args = "id > ?", []any{f.After}
	add := func(condition string, arg any) { text, args = text+" AND "+condition, append(args, arg) }
	if f.Pipeline != nil {
		add("pipeline = ?", *f.Pipeline)
	}
	if f.Table != "" {
		add("tbl = ?", f.Table)
	}
	if f.Kind != "" {
		add("kind = ?", f.Kind)
	}
	if len(f.IDs) > 0 {
		text += " AND id IN (?" + strings.Repeat(", ?", len(f.IDs)-1) + ")"
		for _, id := range f.IDs {
			args = append(args, id)
		}
	}
	return text, args
}

const columns = `id, pipeline, source, tbl, op, event_id, position, kind, error, attempts, first_at, last_at, bytes`

// List returns entries in their order. With bodies it also returns what their messages were made of.
func (s *Store) List(ctx context.Context, f Filter, bodies bool) (all []Entry, err error) {
	what := columns + ", NULL, '', NULL"
	if bodies {
		what = columns + ", payload, metadata, event"
	}
	where, args := f.where()
	query := "SELECT " + what + " FROM dead_letters WHERE " + where + " ORDER BY id"
	if f.Limit > 0 {
		query += fmt.Sprintf(" LIMIT %d", f.Limit)
	}
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, s.wrap(err)
	}
	defer func() { err = errors.Join(err, s.wrap(rows.Close())) }()
	for rows.Next() {
		var e Entry
		var first, last int64
		var metadata string
		if err := rows.Scan(&e.ID, &e.Pipeline, &e.Source, &e.Table, &e.Op, &e.EventID, &e.Position, &e.Kind, &e.Error, &e.Attempts, &first, &last, &e.Bytes,
			&e.Payload, &metadata, &e.Event); err != nil {
			return nil, s.wrap(err)
		}
		e.FirstAt, e.LastAt = time.UnixMilli(first).UTC(), time.UnixMilli(last).UTC()
		if metadata != "" {
			if e.Metadata, err = unmarshalMetadata([]byte(metadata)); err != nil {
				return nil, s.wrap(fmt.Errorf("entry %d: %w", e.ID, err))
			}
		}
		all = append(all, e)
	}
	return all, s.wrap(rows.Err())
}

// Get returns an entry, whole. It returns ErrNotFound if there is none.
func (s *Store) Get(ctx context.Context, id int64) (Entry, error) {
	all, err := s.List(ctx, Filter{IDs: []int64{id}}, true)
	switch {
	case err != nil:
		return Entry{}, err
	case len(all) == 0:
		return Entry{}, fmt.Errorf("%w: %s has no entry %d", ErrNotFound, s.path, id)
	}
	return all[0], nil
}

// Purge removes entries, and returns how many.
func (s *Store) Purge(ctx context.Context, f Filter) (int, error) {
	where, args := f.where()
	r, err := s.db.ExecContext(ctx, "DELETE FROM dead_letters WHERE "+where, args...)
	if err != nil {
		return 0, s.wrap(err)
	}
	n, err := r.RowsAffected()
	return int(n), s.wrap(err)
}

// Failed notes that the replay of an entry has failed.
func (s *Store) Failed(ctx context.Context, id int64, cause error, now time.Time) error {
	_, err := s.db.ExecContext(ctx, `UPDATE dead_letters SET kind = ?, error = ?, attempts = attempts + 1, last_at = ? WHERE id = ?`,
		kindOf(cause), cause.Error(), now.UnixMilli(), id)
	return s.wrap(err)
}

// Delivered removes entries that were replayed, but for those that have come back meanwhile.
func (s *Store) Delivered(ctx context.Context, replayed []Entry) (removed int, err error) {
	err = sqlitefile.InTx(ctx, s.db, func(tx *sql.Tx) error {
		for _, e := range replayed {
			r, err := tx.ExecContext(ctx, `DELETE FROM dead_letters WHERE id = ? AND attempts = ?`, e.ID, e.Attempts)
			if err != nil {
				return err
			}
			n, err := r.RowsAffected()
			if err != nil {
				return err
			}
			removed += int(n)
		}
		return nil
	})
	return removed, s.wrap(err)
}

// wrap names the file in an error.
func (s *Store) wrap(err error) error {
	if err == nil || errors.Is(err, ErrFull) {
		return err
	}
	return fmt.Errorf("dead letters in %s: %w", s.path, err)
}
