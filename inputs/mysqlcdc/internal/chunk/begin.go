package chunk

import (
	"context"
	"fmt"
	"time"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/internal/fault"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// What a transaction sees. A transaction is in the log, and is sent to replicas, before its changes are visible: it waits for the engine,
// for those before it, or for a replica that shall have it first (semi-synchronous replication). So the end of the log says only what may
// be visible, not what is.
//
//   - MySQL adds a transaction to gtid_executed after its engine has committed it. So what was there before the view was opened is visible.
//   - MariaDB opens a view between two commits, and says at which place of the log that is.
//   - MySQL without GTIDs says nothing: see settler.

// pollEvery is the time between two looks at what is waited for.
const pollEvery = 20 * time.Millisecond

// Begin implements snapshot.Reader.
func (r *reader) Begin(ctx context.Context, table string, after checkpoint.Position) (snapshot.View, error) {
	defer r.conn.Interrupt(ctx)()
	v, err := r.begin(ctx, after)
	if err != nil {
		return nil, fault.WithTable(table, fmt.Errorf("opening a transaction for rows of %s: %w", table, err))
	}
	r.view = v
	return v, nil
}

func (r *reader) begin(ctx context.Context, after checkpoint.Position) (*view, error) {
	at, ok := after.(*gtid.Position)
	if !ok { // as it was saved
		var err error
		if at, err = gtid.ParsePosition(after.String()); err != nil {
			return nil, err
		}
	}
	v := &view{source: r.source, server: r.mainServer.identity}
	var err error
	switch {
	case r.server.flavor == product.MariaDB && r.main != nil:
		err = r.beginMariaReplica(ctx, v, at)
	case r.server.flavor == product.MariaDB:
		err = r.beginMariaDB(ctx, v, at)
	case r.server.gtidMode && !r.source.cfg.NoGTIDs:
		err = r.beginGTIDs(ctx, v, at)
	default:
		err = r.beginPlaces(ctx, v, at)
	}
	if err != nil {
		return nil, err
	}
	high, err := r.logEnd(ctx)
	if err != nil {
		return nil, err
	}
	v.high.Store(high)
	return v, nil
}

// logEnd returns a place before which everything lies that the transaction has seen so far.
func (r *reader) logEnd(ctx context.Context) (*gtid.Position, error) {
	return logEnd(ctx, r.conn.Query)
}

// snapshotSQL opens the view of a transaction at once.
const snapshotSQL = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"

func (r *reader) beginGTIDs(ctx context.Context, v *view, after *gtid.Position) error {
	set := after.Set()
	err := r.until(ctx, func() (string, error) {
		var err error
		if v.executed, err = executed(ctx, r.conn); err != nil {
			return "", err
		}
		if missing := set.Minus(v.executed); !missing.Empty() {
			return fmt.Sprintf("the transactions %s, which are in the log and not visible yet: %s", missing, r.heldBy()), nil
		}
		return "", nil
	})
	if err != nil {
		return err
	}
	_, err = r.conn.Query(ctx, snapshotSQL)
	return err
}

// heldBy is what holds a transaction up that is in the log.
func (r *reader) heldBy() string {
	if r.main != nil {
		return "the replica of snapshot.dsn (" + r.source.cfg.Replica.Address + ") is late"
	}
	return "their commits wait, for a semi-synchronous replica perhaps (SHOW PROCESSLIST tells)"
}

// executed asks MySQL which transactions its engines have committed.
func executed(ctx context.Context, q querier) (*gtid.Set, error) {
	rows, err := q.Query(ctx, "SELECT @@GLOBAL.gtid_executed")
	if err != nil {
		return nil, fmt.Errorf("reading gtid_executed: %w", err)
	}
	p, err := gtid.ParseLoosely(rows[0][0] + "@x.1:4") // a set may be empty, a position may not
	if err != nil {
		return nil, fmt.Errorf("reading gtid_executed: %w", err)
	}
	return p.Set(), nil
}

func (r *reader) beginMariaDB(ctx context.Context, v *view, after *gtid.Position) error {
	return r.until(ctx, func() (string, error) {
		var err error
		if v.before, err = mariaSnapshot(ctx, r.conn); err != nil {
			return "", err
		}
		visible := after.File != "" && v.before.Reaches(after)
		if after.File == "" {
			if v.domains, err = mariaGTIDs(ctx, r.conn, v.before); err != nil {
				return "", err
			}
			visible = after.NotAfter(v.domains)
		}
		if visible {
			return "", nil
		}
		if _, err := r.conn.Query(ctx, "ROLLBACK"); err != nil {
			return "", err
		}
		return fmt.Sprintf("what is in the log up to %s, and visible up to %s only: %s", after, v.before, r.heldBy()), nil
	})
}

// mariaSnapshot opens a transaction of MariaDB, and returns the place in the log that its view is of: all before it is visible, nothing
// after it.
func mariaSnapshot(ctx context.Context, q querier) (*gtid.Position, error) {
	if _, err := q.Query(ctx, snapshotSQL); err != nil {
		return nil, err
	}
	rows, err := q.Query(ctx, "SHOW STATUS LIKE 'binlog_snapshot_%'")
	if err != nil {
		return nil, fmt.Errorf("asking for the place of the view: %w", err)
	}
	status := map[string]string{}
	for _, r := range rows {
		status[lower(r[0])] = r[1]
	}
	p, err := gtid.ParseLoosely(status["binlog_snapshot_file"] + ":" + status["binlog_snapshot_position"])
	if err != nil {
		return nil, fmt.Errorf("asking for the place of the view: %w", err)
	}
	return p, nil
}

// until calls look until it says that there is nothing to wait for, and says what it waits for now and then.
func (r *reader) until(ctx context.Context, look func() (waitsFor string, err error)) error {
	return r.source.until(ctx, look)
}

// sayAfter is how long something is waited for before it is said, and then each time again.
const sayAfter = 10 * time.Second

func (s *Source) until(ctx context.Context, look func() (waitsFor string, err error)) error {
	began := time.Now()
	defer s.waits.Store(nil)
	waited := ""
	for said := sayAfter; ; {
		what, err := look()
		if err != nil && ctx.Err() != nil && waited != "" {
			err = fmt.Errorf("waiting for %s: %w", waited, ctx.Err())
		}
		if err != nil || what == "" {
			return err
		}
		waited = what
		s.waits.Store(&what)
		if since := time.Since(began); since >= said {
			s.cfg.Warn("A snapshot has been waiting for %s: it waits for %s", since.Round(time.Second), what)
			said += 6 * sayAfter
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		case <-time.After(pollEvery):
		}
	}
}
