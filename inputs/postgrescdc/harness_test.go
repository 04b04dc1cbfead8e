package postgrescdc

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/coordinator"
	"github.com/deltaforge/deltaforge/internal/format"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.MainWithoutLeaks(m)) }

// testLog gathers what is logged.
type testLog struct {
	mu    sync.Mutex
	lines []string // guarded by mu
}

func (l *testLog) Infof(format string, args ...any) { l.add("info ", format, args...) }
func (l *testLog) Warnf(format string, args ...any) { l.add("warn ", format, args...) }

func (l *testLog) add(level, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := level + fmt.Sprintf(format, args...)
	l.lines = append(l.lines, line)
	_, _ = fmt.Fprintln(testenv.Said(), line)
}

func (l *testLog) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

// database is a database of its own on the test server.
type database struct {
	t    testing.TB
	dsn  string
	name string
	conn *pgx.Conn

	server *testenv.PostgresServer
}

func newDatabase(t testing.TB) *database {
	t.Helper()
	return newDatabaseOn(t, testenv.Postgres(t))
}

func newDatabaseOn(t testing.TB, server *testenv.PostgresServer) *database {
	t.Helper()
	name := server.Database(t)
	d := &database{t: t, name: name, dsn: server.DSN(name), server: server}
	d.conn = d.connect()
	return d
}

// exec runs statements, each in a transaction of its own.
func (d *database) exec(statements ...string) {
	d.t.Helper()
	for _, s := range statements {
		_, err := d.conn.Exec(context.Background(), s, pgx.QueryExecModeSimpleProtocol)
		require.NoError(d.t, err, s)
	}
}

func (d *database) queryText(sql string, args ...any) string {
	d.t.Helper()
	var s string
	require.NoError(d.t, d.conn.QueryRow(context.Background(), sql, args...).Scan(&s), sql)
	return s
}

func (d *database) connect() *pgx.Conn {
	d.t.Helper()
	conn, err := pgx.Connect(context.Background(), d.dsn)
	require.NoError(d.t, err)
	d.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// source is a log on a database, its slot named after the database so that tests do not meet.
func (d *database) source(yaml string) (*replication, *testLog) {
	d.t.Helper()
	r, log, err := makeSource(d.name, d.dsn, yaml)
	require.NoError(d.t, err)
	return r, log
}

func makeSource(name, dsn, yaml string) (*replication, *testLog, error) {
	if !strings.Contains(yaml, "snapshot:") {
		yaml += "\nsnapshot: {mode: never}"
	}
	conf, err := spec().ParseYAML(fmt.Sprintf("name: %s\ndsn: %q\n%s", name, dsn, yaml), nil)
	if err != nil {
		return nil, nil, err
	}
	c, err := parseConfig(conf, name)
	if err != nil {
		return nil, nil, err
	}
	messages, err := format.Parse(conf, service.MockResources())
	if err != nil {
		return nil, nil, err
	}
	log := &testLog{}
	return newReplication(c, &change.Source{Connector: connector, Name: name, Version: "test", Format: messages}, log, func(table string) {
		log.add("changed ", "%s", table)
	}), log, nil
}

// stream is one Run of a log.
type stream struct {
	t    testing.TB
	r    *replication
	out  chan coordinator.Segment
	stop context.CancelFunc
	done chan struct{}
	err  error // after done
	last checkpoint.Token

	noCommit bool // no position may come before the next rows
}

// run starts a Run and waits until it streams.
func (d *database) run(r *replication, from checkpoint.Token) *stream {
	d.t.Helper()
	s := d.begin(r, from)
	seg := s.next()
	require.Nil(d.t, seg.Rows)
	require.Equal(d.t, from.IsZero(), seg.Commit != nil)
	return s
}

func (d *database) begin(r *replication, from checkpoint.Token) *stream {
	ctx, cancel := context.WithCancel(context.Background())
	s := &stream{t: d.t, r: r, out: make(chan coordinator.Segment), stop: cancel, done: make(chan struct{}), last: from}
	go func() {
		defer close(s.done)
		s.err = r.Run(ctx, from, s.out)
	}()
	d.t.Cleanup(s.close)
	return s
}

// close ends the Run and waits for it.
func (s *stream) close() {
	s.stop()
	<-s.done
}

func (s *stream) next() coordinator.Segment {
	s.t.Helper()
	select {
	case seg := <-s.out:
		s.follow(seg)
		return seg
	case <-s.done:
		require.Failf(s.t, "the stream ended", "%v", s.err)
	case <-time.After(waitFor):
		require.Fail(s.t, "no segment")
	}
	panic("unreachable")
}

// follow does what the coordinator does with a token.
func (s *stream) follow(seg coordinator.Segment) {
	s.last.Source = seg.Source
	if s.noCommit && seg.Rows == nil {
		require.Nil(s.t, seg.Commit)
	}
	s.noCommit = s.noCommit && seg.Rows == nil
	if seg.Commit != nil {
		s.last.Commit, s.last.Sent = seg.Commit, 0
	}
}

// events reads until there are n events and the transaction of the last one has ended.
func (s *stream) events(n int) []*service.Message {
	s.t.Helper()
	var batch service.MessageBatch
	for end := time.Now().Add(5 * waitFor); ; {
		require.True(s.t, time.Now().Before(end), "%d of %d events", len(batch), n)
		seg := s.next()
		if seg.Rows != nil {
			var err error
			batch, err = seg.Rows.Decode(s.t.Context(), batch)
			require.NoError(s.t, err)
		}
		if len(batch) >= n && seg.Commit != nil {
			require.Len(s.t, batch, n)
			return batch
		}
	}
}

// fails waits for the end of the Run and returns its error. Until then there may be positions, but no rows.
func (s *stream) fails() error {
	s.t.Helper()
	for end := time.Now().Add(5 * waitFor); ; {
		require.True(s.t, time.Now().Before(end), "no error")
		select {
		case <-s.done:
			require.Error(s.t, s.err)
			return s.err
		case seg := <-s.out:
			require.Nil(s.t, seg.Rows, "rows, where an error was expected")
		case <-time.After(waitFor):
			require.Fail(s.t, "no error")
		}
	}
}

// short is an event as the tests compare it: operation, table and the images.
func short(t testing.TB, m *service.Message) string {
	t.Helper()
	require.NoError(t, m.GetError())
	b, err := m.AsBytes()
	require.NoError(t, err)
	ev, ok := change.FromMessage(m)
	require.True(t, ok)
	text := string(b)
	i := strings.Index(text, `,"source":`)
	require.Positive(t, i)
	return fmt.Sprintf("%c %s %s}", ev.Op, ev.Table.Name, text[:i])
}

func shorts(t testing.TB, batch []*service.Message) []string {
	t.Helper()
	out := make([]string, len(batch))
	for i, m := range batch {
		out[i] = short(t, m)
	}
	return out
}
