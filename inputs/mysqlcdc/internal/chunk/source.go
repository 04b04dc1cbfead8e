// Package chunk reads the rows that tables of a MySQL or MariaDB server hold, a chunk at a time, in the form in which the log would have
// them. It knows what the transaction of a chunk sees of the log.
package chunk

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/filter"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/row"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/wire"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// Config is what a Source is made of.
type Config struct {
	// Server is the one whose log is streamed.
	Server wire.Server
	// Replica is the one that chunks are read from; nil for Server.
	Replica *wire.Server
	// NoGTIDs says that positions are places in files only.
	NoGTIDs bool
	Filter  filter.Filter
	Keys    map[string][]string
	Values  row.Options
	Source  *change.Source
	// Warn logs.
	Warn func(format string, args ...any)
}

// Source implements snapshot.Source.
type Source struct {
	cfg Config
	// stream is the identity of the server whose log is streamed; nil before the first.
	stream atomic.Pointer[string]
	appear func(snapshot.Appearance)
	// waits is what a view or a start waits for; nil for nothing.
	waits atomic.Pointer[string]

	mu     sync.Mutex
	names  map[string]statement.TableName // by their full name; guarded by mu, as is shapes
	shapes *shapes                        // nil before the first reader

	commit settler
}

var _ snapshot.Source = (*Source)(nil)

// New returns a source. It does not connect.
func New(cfg Config) *Source {
	return &Source{cfg: cfg, names: map[string]statement.TableName{}, commit: settler{turn: make(chan struct{}, 1)}}
}

// Streams says which server's log is streamed from now on.
func (s *Source) Streams(identity string) { s.stream.Store(&identity) }

// Forget forgets what is known of the server's log, which is another one now. No chunk is being read.
func (s *Source) Forget() {
	s.commit = settler{turn: make(chan struct{}, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names, s.shapes = map[string]statement.TableName{}, nil
}

// Waits says what a view or a start waits for; empty for nothing.
func (s *Source) Waits() string {
	if what := s.waits.Load(); what != nil {
		return *what
	}
	return ""
}

// Notify implements snapshot.Source.
func (s *Source) Notify(f func(snapshot.Appearance)) { s.appear = f }

// Appeared says that a table has come under a captured name with rows that the log does not have.
func (s *Source) Appeared(n statement.TableName, why string) {
	full := s.remember(n)
	if s.appear != nil {
		s.appear(snapshot.Appearance{Table: full, Why: why})
	}
}

// remember returns the full name of a table, and makes it known.
func (s *Source) remember(n statement.TableName) string {
	full := n.DB + "." + n.Table
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[full] = n
	return full
}

// name returns the table of a full name.
func (s *Source) name(full string) statement.TableName {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n, ok := s.names[full]; ok {
		return n
	}
	db, table, _ := strings.Cut(full, ".")
	return statement.TableName{DB: db, Table: table}
}

// chunkServer is where chunks are read.
func (s *Source) chunkServer() *wire.Server {
	if s.cfg.Replica != nil {
		return s.cfg.Replica
	}
	return &s.cfg.Server
}

// listLockWait is how long a list of the tables waits, in seconds, for a statement that has locked one of them.
const listLockWait = 1

// Tables implements snapshot.Source.
func (s *Source) Tables(ctx context.Context) ([]snapshot.Table, error) {
	conn, err := open(ctx, s.chunkServer())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer conn.Interrupt(ctx)()
	vars, err := inspect(ctx, conn.Conn)
	if err != nil {
		return nil, err
	}
	session := fmt.Sprintf("SET SESSION lock_wait_timeout = %d", listLockWait)
	if vars.flavor == product.MySQL {
		session += ", information_schema_stats_expiry = 0" // else the estimates are up to a day old
	}
	if _, err := conn.Query(ctx, session); err != nil {
		return nil, err
	}
	rows, err := conn.Query(ctx, "SELECT TABLE_SCHEMA, TABLE_NAME, IFNULL(TABLE_ROWS, -1) FROM information_schema.TABLES "+
		"WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')")
	if err != nil {
		return nil, fmt.Errorf("listing the tables: %w", err)
	}
	wanted := s.cfg.Filter
	wanted.Fold = vars.fold
	var tables []snapshot.Table
	for _, r := range rows {
		n := statement.TableName{DB: r[0], Table: r[1]}
		if !wanted.Match(n.DB, n.Table) {
			continue
		}
		t := snapshot.Table{Name: s.remember(n)}
		if t.Rows, err = strconv.ParseInt(r[2], 10, 64); err != nil {
			t.Rows = -1
		}
		if t.Key, t.Refused, err = s.try(ctx, conn.Conn, n); err != nil {
			return nil, err
		}
		tables = append(tables, t)
	}
	slices.SortFunc(tables, func(a, b snapshot.Table) int { return strings.Compare(a.Name, b.Name) })
	return tables, nil
}

// try looks whether a table can be read, and by which key.
func (s *Source) try(ctx context.Context, conn *wire.Conn, n statement.TableName) (key []string, refused, err error) {
	_, err = conn.Query(ctx, "SELECT * FROM "+n.SQL()+" LIMIT 0")
	switch {
	case err == nil, wire.IsServerError(err, mysql.ER_LOCK_WAIT_TIMEOUT): // whether it can be read is seen when it is
	case wire.IsServerError(err, mysql.ER_TABLEACCESS_DENIED_ERROR, mysql.ER_DBACCESS_DENIED_ERROR, mysql.ER_COLUMNACCESS_DENIED_ERROR):
		return nil, fmt.Errorf("the account may not read %s.%s: GRANT SELECT ON %s TO %s: %w", n.DB, n.Table, n.SQL(), s.account(), err), nil
	case serverSays(err):
		return nil, fmt.Errorf("reading %s.%s: %w", n.DB, n.Table, err), nil
	default:
		return nil, nil, err
	}
	parts, err := readKey(ctx, conn, n)
	if serverSays(err) { // it has gone meanwhile
		return nil, err, nil
	}
	for _, p := range parts.parts {
		key = append(key, p.name)
	}
	return key, nil, err
}

// account is what a GRANT statement names.
func (s *Source) account() string {
	return fmt.Sprintf("'%s'@'%%'", strings.ReplaceAll(s.chunkServer().User, "'", "''"))
}
