package chunk

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
)

// A transaction can be in the log, and delivered, while queries do not see it yet: its commit waits for a standby. Then it still holds
// the lock on its number, which goes after it has become visible. So everything that was delivered until now is visible once the
// transactions are gone that hold such a lock now.

// settled is up to where everything in the log is visible for good.
type settled struct {
	known bool
	lsn   lsn.LSN
}

// runner is a transaction that may have committed in the log.
type runner struct {
	xid, what, way string
}

const (
	// waitTold is how long a wait may take before the log says what it is for.
	waitTold = 2 * time.Second
	// The time between two looks at what is waited for.
	waitFirst, waitMost = 2 * time.Millisecond, 250 * time.Millisecond
	// preparedTime is how long a transaction must have been seen prepared that counts as one that nobody commits.
	preparedTime = time.Second
)

// complete waits until queries see all of a table that the stream does not have.
func (s *Source) complete(ctx context.Context, conn *pgx.Conn, name string, passed lsn.LSN) error {
	ask := func(_ context.Context, f func(*pgx.Conn) error) error { return f(conn) }
	if _, err := s.writersGone(ctx, ask, name); err != nil {
		return err
	}
	return s.settle(ctx, conn, passed)
}

// settle waits until everything is visible that the log has up to a place, which the stream has passed.
func (s *Source) settle(ctx context.Context, conn *pgx.Conn, passed lsn.LSN) error {
	s.mu.Lock()
	done := s.settled.known && passed <= s.settled.lsn
	s.mu.Unlock()
	if done {
		return nil
	}
	began := time.Now()
	first, err := queryRunners(ctx, conn, nil, false)
	if err != nil {
		return err
	}
	err = s.await(ctx, first, func(ctx context.Context) ([]runner, error) {
		xids := make([]string, len(first))
		for i := range first {
			xids[i] = first[i].xid
		}
		return queryRunners(ctx, conn, xids, time.Since(began) > preparedTime)
	}, "the rows of the snapshot have all that was delivered once the transactions have ended that were committing")
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.settled.known || passed > s.settled.lsn {
		s.settled = settled{true, passed}
	}
	return nil
}

// await waits until nothing is left of a list, and says what it waits for if that takes long.
func (s *Source) await(ctx context.Context, left []runner, look func(context.Context) ([]runner, error), why string) error {
	began, pause, told := time.Now(), waitFirst, ""
	for len(left) > 0 {
		if time.Since(began) > waitTold && told != left[0].xid {
			told = left[0].xid
			s.cfg.Logger.Warnf("%s: waiting for %s (%d in all): %s", why, left[0].what, len(left), left[0].way)
		}
		if err := sleep(ctx, pause); err != nil {
			return fmt.Errorf("waiting for %s: %w: %s", left[0].what, err, left[0].way)
		}
		pause = min(2*pause, waitMost)
		var err error
		if left, err = look(ctx); err != nil {
			return err
		}
	}
	if told != "" {
		s.cfg.Logger.Infof("%s: that is so now", why)
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
		return context.Cause(ctx)
	}
}

// queryRunners returns the transactions that may have committed in the log and may not be visible; of a list, those that are left of it.
// One of which it is known that its session waits for a statement, or for what no commit waits for, has not begun to commit. Nor has a prepared one, unless a session
// may be about to commit it: quiet says that it has been there for long, while a commit waits for nothing but a standby.
func queryRunners(ctx context.Context, conn *pgx.Conn, of []string, quiet bool) ([]runner, error) {
	rows, err := conn.Query(ctx, `SELECT l.transactionid::text, coalesce(l.pid, 0), coalesce(a.usename, ''), coalesce(a.application_name, ''), coalesce(a.state, ''),
			coalesce(to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), '?'), coalesce(p.gid, '')
		FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
		LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = l.transactionid
		WHERE l.locktype = 'transactionid' AND l.granted AND l.mode = 'ExclusiveLock' AND l.pid IS DISTINCT FROM pg_backend_pid()
		AND ($1::text[] IS NULL OR l.transactionid::text = ANY ($1))
		AND coalesce(a.datname, p.database, current_database()) = current_database()
		AND coalesce(a.state, '') NOT IN ('idle in transaction', 'idle in transaction (aborted)')
		AND NOT coalesce(a.wait_event_type IN ('Lock', 'BufferPin') OR a.wait_event IN ('ClientRead', 'DataFileRead', 'DataFileExtend', 'BufFileRead', 'BufFileWrite',
			'PgSleep'), false)
		AND NOT ($2 AND p.gid IS NOT NULL AND (current_setting('synchronous_standby_names') = ''
			OR NOT EXISTS (SELECT 1 FROM pg_catalog.pg_stat_activity w WHERE w.backend_type = 'client backend' AND w.pid <> pg_backend_pid()
				AND (w.wait_event = 'SyncRep' OR w.state IS NULL))))
		ORDER BY a.xact_start`, of, quiet)
	if err != nil {
		return nil, fmt.Errorf("looking which transactions are committing: %w", classify(err))
	}
	var list []runner
	var xid, user, application, state, since, gid string
	var pid int32
	_, err = pgx.ForEachRow(rows, []any{&xid, &pid, &user, &application, &state, &since, &gid}, func() error {
		list = append(list, describeRunner(xid, pid, user, application, state, since, gid))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking which transactions are committing: %w", classify(err))
	}
	return list, nil
}

func describeRunner(xid string, pid int32, user, application, state, since, gid string) runner {
	if gid != "" {
		return runner{
			xid: xid, what: fmt.Sprintf("the prepared transaction %q", gid),
			way: fmt.Sprintf("COMMIT PREPARED %s or ROLLBACK PREPARED %s", literal(gid), literal(gid)),
		}
	}
	if state == "" {
		state = "state not shown to this role: GRANT pg_read_all_stats"
	}
	return runner{
		xid: xid, what: fmt.Sprintf("the transaction of the server process %d (user %q, application %q, %s), open since %s", pid, user, application, state, since),
		way: fmt.Sprintf("let it end, or SELECT pg_terminate_backend(%d); a commit that waits for a standby ends when the standby is back, or after "+
			"synchronous_standby_names is corrected", pid),
	}
}
