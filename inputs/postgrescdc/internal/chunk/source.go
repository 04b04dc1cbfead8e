// Package chunk reads the tables of a PostgreSQL database for a snapshot, and says what each of its transactions sees of the log.
//
// What a transaction on a primary sees is its snapshot: the numbers of the transactions that had ended. On a standby it is what was
// replayed before the transaction began.
package chunk

import (
	"context"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/shape"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/wire"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// Config is what a Source needs to know, most of it of the stream that the rows are joined to.
type Config struct {
	// Primary opens a connection to the server that the stream comes from, and Replica one to the server that chunks are read from; nil:
	// the same. Sessions have the settings that the stream's values depend on. All that the server sends is read through the Stream.
	Primary, Replica func(ctx context.Context) (*pgx.Conn, *wire.Stream, error)
	// Identify returns the system identifier and the timeline of the primary, or of the replica; 0: it does not say.
	Identify func(ctx context.Context, replica bool) (system string, timeline int, err error)
	// ReplicaUser is the role on the replica; empty: the one on the primary.
	ReplicaUser string
	// Publications are the names of those that are streamed, as far as they are there.
	Publications []string
	// Captured lists the captured tables of the database.
	Captured func(ctx context.Context, conn *pgx.Conn) ([]Captured, error)
	// Schemas make the shapes of tables, and are used by nothing else.
	Schemas *shape.Schemas
	// At returns the place of a position in the log.
	At func(checkpoint.Position) (lsn.LSN, error)
	// Want says that the stream is to come to a place soon, and to say so.
	Want func(lsn.LSN)
	// Logger takes what a person should know.
	Logger Logger
}

// Logger is what is needed of a logger.
type Logger interface {
	Infof(format string, args ...any)
	Warnf(format string, args ...any)
}

// Captured is a captured table.
type Captured struct {
	OID          uint32
	Schema, Name string
	Partitioned  bool
	// Refused says why the table is not loaded; nil: it is.
	Refused error
}

// FullName is the name that change.Table.FullName gives it.
func (c *Captured) FullName() string { return c.Schema + "." + c.Name }

// Source is the snapshot.Source of a database.
type Source struct {
	cfg Config

	mu      sync.Mutex
	tables  map[string]*table // by full name; guarded by mu, as are the others
	settled settled
	news    map[string]*newcomer
	notify  func(snapshot.Appearance) // nil: nobody loads what appears
	last    lastView

	schemas sync.Mutex // held while the schemas are used

	primaryMu sync.Mutex
	primary   *pgx.Conn // for readers of replicas; nil: none; guarded by primaryMu
}

var _ snapshot.Source = (*Source)(nil)

// New returns a source that is not connected.
func New(cfg Config) *Source {
	return &Source{cfg: cfg, tables: map[string]*table{}, news: map[string]*newcomer{}}
}

// Forget forgets what is known of the server's log, which is another one now. No chunk is being read.
func (s *Source) Forget() {
	s.mu.Lock()
	s.tables, s.news, s.settled, s.last = map[string]*table{}, map[string]*newcomer{}, settled{}, lastView{}
	s.mu.Unlock()
	s.primaryMu.Lock()
	defer s.primaryMu.Unlock()
	if s.primary != nil { // to the server that was
		closeConn(s.primary)
		s.primary = nil
	}
}

// Notify implements snapshot.Source.
func (s *Source) Notify(f func(snapshot.Appearance)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notify = f
}

// Open implements snapshot.Source.
func (s *Source) Open(ctx context.Context) (snapshot.Reader, error) {
	r, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	return r, nil
}

// OpenAside opens a connection for rows that are not put into the stream: the stream need not come to the place that they were read at.
func (s *Source) OpenAside(ctx context.Context) (snapshot.Reader, error) {
	r, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	r.aside = true
	return r, nil
}

func (s *Source) open(ctx context.Context) (*reader, error) {
	dial := s.cfg.Replica
	if dial == nil {
		dial = s.cfg.Primary
	}
	conn, stream, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	r := &reader{s: s, conn: conn, stream: stream}
	if err := r.prepare(ctx); err != nil {
		r.Close()
		return nil, fmt.Errorf("opening a connection for a snapshot: %w", err)
	}
	return r, nil
}
