package postgrescdc

import (
	"context"
	"fmt"
	"io"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/catalog"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/chunk"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/dsn"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/publication"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/shape"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/wire"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// What a snapshot needs of the stream: its connections, and how it makes tables and values.

// Snapshots implements coordinator.Snapshotter.
func (r *replication) Snapshots() snapshot.Source { return r.chunks }

// newChunks returns the source of a snapshot's rows.
func (r *replication) newChunks(settings shape.Settings) *chunk.Source {
	settings.Present, settings.Changed = true, func(string) {}
	c := chunk.Config{
		Primary:      r.cfg.connectStream,
		Publications: []string{r.cfg.publication, r.cfg.wanted().InsertsName()},
		Captured:     r.captured,
		Schemas:      shape.New(settings),
		At: func(p checkpoint.Position) (lsn.LSN, error) {
			at, err := tokenPosition(checkpoint.Token{Commit: p})
			return at.At, err
		},
		Want:   r.hurry,
		Logger: r.logger,
	}
	if r.cfg.replica != nil {
		c.Replica, c.ReplicaUser, c.Identify = r.cfg.ofReplica().connectStream, r.cfg.replica.User, r.identifyForChunks
	}
	return chunk.New(c)
}

// OpenRows implements change.Rows. What is known of tables and of the log is not shared with the chunks of a snapshot: it goes with the
// connection.
func (r *replication) OpenRows() change.RowReader {
	return &snapshot.Rereader{
		Open: func(ctx context.Context) (snapshot.Reader, error) {
			return r.newChunks(r.schemas.Settings).OpenAside(ctx)
		},
		After: func(events []*change.Event) (checkpoint.Position, error) {
			var newest Position
			for _, ev := range events {
				p, err := lsn.Parse(ev.Tx.Position)
				if err != nil {
					return nil, err
				}
				newest.At = max(newest.At, p+1) // the record of a commit begins at its position
			}
			return newest, nil
		},
	}
}

// parseSnapshot reads whether tables are loaded, and where from.
func (c *config) parseSnapshot(conf *service.ParsedConfig, cleartext bool) error {
	parsed, err := snapshot.ParseConfig(conf)
	if err != nil {
		return err
	}
	c.loads = parsed.Mode != snapshot.Never
	text := parsed.DSN
	if text == "" {
		return nil
	}
	if c.replica, err = dsn.Parse(text); err != nil {
		return fmt.Errorf("snapshot.%w", err)
	}
	if c.readTLS != nil {
		conf, err := c.readTLS()
		if err != nil {
			return err
		}
		useTLS(&c.replica.Config, conf)
	}
	wire.ProtectPassword(c.replica, cleartext)
	return nil
}

// ofReplica is the configuration with the connection to the replica.
func (c *config) ofReplica() *config {
	replica := *c
	replica.conn = c.replica
	return &replica
}

// identifyForChunks asks primary or replica who they are. Where the role may not replicate, the timeline stays unknown.
func (r *replication) identifyForChunks(ctx context.Context, replica bool) (system string, timeline int, err error) {
	cfg := &r.cfg
	if replica {
		cfg = r.cfg.ofReplica()
	}
	who := &replication{cfg: *cfg}
	conn, _, err := who.connectReplication(ctx)
	if err == nil {
		defer func() { _ = conn.Close(ctx) }() // nothing is lost with it
		sys, err := pglogrepl.IdentifySystem(ctx, conn)
		if err != nil {
			return "", 0, classify(fmt.Errorf("identifying the server: %w", err))
		}
		return sys.SystemID, int(sys.Timeline), nil
	}
	plain, e := cfg.connect(ctx)
	if e != nil {
		return "", 0, classifyConnect(e)
	}
	defer catalog.Close(ctx, plain)
	if plain.QueryRow(ctx, `SELECT system_identifier::text FROM pg_control_system()`).Scan(&system) != nil {
		return "", 0, fmt.Errorf("identifying the server: %w", err)
	}
	return system, 0, nil
}

// captured lists the tables that a snapshot has.
func (r *replication) captured(ctx context.Context, conn *pgx.Conn) ([]chunk.Captured, error) {
	var version int
	if err := conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&version); err != nil {
		return nil, classify(fmt.Errorf("asking for the server's version: %w", err))
	}
	state, err := r.cfg.wanted().Look(ctx, conn, version)
	if err != nil {
		return nil, classify(err)
	}
	var list []chunk.Captured
	for _, t := range r.cfg.filter.Choose(state.Tables) {
		c := chunk.Captured{OID: t.OID, Schema: t.Schema, Name: t.Table, Partitioned: t.Partitioned}
		if !state.Has(&t) {
			c.Refused = chunk.Unpublished(c.FullName())
		}
		list = append(list, c)
	}
	return list, nil
}

// appeared has tables loaded that have come under captured names between two looks.
func (r *replication) appeared(ctx context.Context, conn *pgx.Conn, before, now *publication.State) error {
	if !r.cfg.loads {
		return nil
	}
	done := map[publication.Name]bool{}
	for _, a := range publication.Appeared(before, now, r.cfg.wanted()) {
		if done[a.Name] {
			continue
		}
		if a.Part != nil {
			if filled, err := publication.CameFilled(ctx, conn, a.Part); err != nil || !filled {
				if err != nil {
					r.warnOnce(fmt.Sprintf("%v: if it does, load the table %s", err, a.Name))
				}
				continue
			}
		}
		done[a.Name] = true
		if err := r.chunks.Appeared(ctx, conn, a.OID, a.Name.String(), a.Why); err != nil {
			return err
		}
	}
	return nil
}

// appearedSince does the same for what has come since the last session, or, at a start, was published only now. Of a new slot all tables
// are loaded.
func (r *replication) appearedSince(ctx context.Context, conn *pgx.Conn, before *publication.State, have *preconditions) error {
	if r.seen != nil {
		before = r.seen
	}
	if have.slot != nil || r.seen != nil {
		if err := r.appeared(ctx, conn, before, have.state); err != nil {
			return classify(err)
		}
	}
	r.seen = have.state
	return nil
}

// connectStream opens a connection for queries, whose rows can be read without the driver.
func (c *config) connectStream(ctx context.Context) (*pgx.Conn, *wire.Stream, error) {
	fresh, err := c.fresh()
	if err != nil {
		return nil, nil, err
	}
	var stream *wire.Stream
	fresh.BuildFrontend = func(src io.Reader, dst io.Writer) *pgproto3.Frontend {
		stream = wire.NewStream(src, nil)
		return pgproto3.NewFrontend(stream, dst)
	}
	conn, err := pgx.ConnectConfig(ctx, fresh)
	if err != nil {
		return nil, nil, classifyConnect(err)
	}
	return conn, stream, nil
}

// hurry has the stream say soon that it has come to a place: the server is asked where it is, and what it answers is not held back.
func (r *replication) hurry(to lsn.LSN) {
	for was := r.wanted.Load(); uint64(to) > was; was = r.wanted.Load() {
		if r.wanted.CompareAndSwap(was, uint64(to)) {
			break
		}
	}
	r.asks.Store(true)
	r.wake()
}

// nudge has the server write out its log where a snapshot waits for a place that is not written: what open transactions have added to
// the log stays in memory until somebody commits, for up to fifteen seconds. A transaction that only takes a number does that.
func (r *replication) nudge(ctx context.Context, conn *pgx.Conn) {
	wanted, written := r.wanted.Load(), r.serverEnd.Load()
	if wanted <= written || r.nudged.Load() == wanted {
		return
	}
	r.nudged.Store(wanted)
	_, _ = conn.Exec(ctx, "SELECT pg_current_xact_id()") // on a standby, and where the session may only read, the log is written out later
}
