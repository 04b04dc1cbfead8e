package chunk

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// newcomer is a table that has come while transactions were writing to it. What they had written before it was published is not in the
// stream, however late they commit. So no chunk is read before they have ended.
type newcomer struct {
	writers []runner
	gone    lsn.LSN // where they have ended in the log; 0: not yet
}

// Appeared tells of a table that has come under a captured name and is published. Called after that was committed.
func (s *Source) Appeared(ctx context.Context, conn *pgx.Conn, oid uint32, name, why string) error {
	writers, err := queryWriters(ctx, conn, oid, nil)
	if err != nil {
		return err
	}
	s.mu.Lock()
	n := &newcomer{writers: writers}
	if before := s.news[name]; before != nil && before.gone == 0 {
		n.writers = append(n.writers, before.writers...)
	}
	s.news[name] = n
	notify := s.notify
	s.mu.Unlock()
	if notify != nil {
		notify(snapshot.Appearance{Table: name, Why: why})
	}
	return nil
}

// asker runs a question on a connection to the primary.
type asker func(ctx context.Context, f func(*pgx.Conn) error) error

// writersGone waits for the transactions that were writing to a table when it came. It returns a place of the log after them; 0: any.
func (s *Source) writersGone(ctx context.Context, ask asker, name string) (lsn.LSN, error) {
	s.mu.Lock()
	n := s.news[name]
	s.mu.Unlock()
	if n == nil || n.gone != 0 {
		if n == nil {
			return 0, nil
		}
		return n.gone, nil
	}
	of := make([]string, len(n.writers))
	for i := range n.writers {
		of[i] = n.writers[i].xid
	}
	err := s.await(ctx, n.writers, func(ctx context.Context) (left []runner, err error) {
		err = ask(ctx, func(conn *pgx.Conn) error { left, err = queryWriters(ctx, conn, 0, of); return err })
		return left, err
	},
		"the table "+name+" can be loaded when the transactions have ended that wrote to it before it was published")
	if err != nil {
		return 0, err
	}
	var gone lsn.LSN
	err = ask(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint`).Scan(&gone)
	})
	if err != nil {
		return 0, fmt.Errorf("looking where the log is: %w", classify(err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.news[name] == n {
		s.news[name] = &newcomer{gone: gone}
	}
	return gone, nil
}

// queryWriters returns the transactions that have written to a table or a partition of it, or may have; of a list, those that are left.
func queryWriters(ctx context.Context, conn *pgx.Conn, oid uint32, of []string) ([]runner, error) {
	rows, err := conn.Query(ctx, `SELECT DISTINCT ON (l.virtualtransaction) l.virtualtransaction, coalesce(l.pid, 0), coalesce(a.usename, ''),
			coalesce(a.application_name, ''), coalesce(a.state, ''), coalesce(to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), '?'),
			coalesce(p.gid, '')
		FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
		LEFT JOIN pg_catalog.pg_locks x ON l.pid IS NULL AND x.locktype = 'transactionid' AND x.virtualtransaction = l.virtualtransaction
		LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = x.transactionid
		WHERE l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
		AND CASE WHEN $2::text[] IS NOT NULL THEN l.virtualtransaction = ANY ($2)
			ELSE l.locktype = 'relation' AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
				AND (l.relation = $1::oid OR l.relation IN (SELECT relid FROM pg_partition_tree($1::oid)))
				AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') END
		ORDER BY l.virtualtransaction`, oid, of)
	if err != nil {
		return nil, fmt.Errorf("looking who writes to the table: %w", classify(err))
	}
	var list []runner
	var virtual, user, application, state, since, gid string
	var pid int32
	_, err = pgx.ForEachRow(rows, []any{&virtual, &pid, &user, &application, &state, &since, &gid}, func() error {
		list = append(list, describeRunner(virtual, pid, user, application, state, since, gid))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking who writes to the table: %w", classify(err))
	}
	return list, nil
}
