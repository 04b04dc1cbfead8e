package chunk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// lastView is the newest view of a replica.
type lastView struct {
	server string
	high   lsn.LSN
}

// onPrimary runs f on a connection to the primary that the readers of replicas share.
func (s *Source) onPrimary(ctx context.Context, f func(conn *pgx.Conn) error) error {
	s.primaryMu.Lock()
	defer s.primaryMu.Unlock()
	if s.primary == nil || s.primary.IsClosed() {
		conn, _, err := s.cfg.Primary(ctx)
		if err != nil {
			return err
		}
		s.primary = conn
	}
	err := f(s.primary)
	if err != nil {
		closeConn(s.primary)
		s.primary = nil
	}
	return err
}

// checkReplica makes sure that the server replays the log of the one that is streamed, and gives the session the settings of that one on
// which the text of values depends.
func (r *reader) checkReplica(ctx context.Context) error {
	var path, money, began, database string
	err := r.s.onPrimary(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `SELECT current_setting('search_path'), current_setting('lc_monetary'), pg_postmaster_start_time()::text, current_database()`).
			Scan(&path, &money, &began, &database)
	})
	if err != nil {
		return classify(err)
	}
	var own, ownDatabase string
	err = r.conn.QueryRow(ctx, `SELECT pg_postmaster_start_time()::text, current_database() FROM set_config('search_path', $1, false) a, set_config('lc_monetary', $2, false) b`,
		path, money).Scan(&own, &ownDatabase)
	if err != nil {
		return classify(err)
	}
	refuse := func(format string, args ...any) error {
		return fault.WithKind(fault.KindOther, fmt.Errorf("snapshot.dsn: "+format+": name a physical standby of the server that dsn names", args...))
	}
	if ownDatabase != database {
		return refuse("the database is %s, that of the source is %s", ownDatabase, database)
	}
	system, timeline, err := r.s.cfg.Identify(ctx, false)
	if err != nil {
		return err
	}
	ownSystem, ownTimeline, err := r.s.cfg.Identify(ctx, true)
	switch {
	case err != nil:
		return err
	case ownSystem != system:
		return refuse("the server has the system identifier %s, the source's has %s: its data is not the source's", ownSystem, system)
	case !r.standby && own != began:
		return refuse("the server takes writes of its own, so it is no replica any more")
	case timeline != 0 && ownTimeline != 0 && ownTimeline != timeline:
		return refuse("the server is on timeline %d, the source's on %d: it does not follow it", ownTimeline, timeline)
	}
	return nil
}

// waitReplay waits until a standby has all that the stream had up to a place, and all of a table that the stream does not have. It returns
// up to where the log is replayed: what a snapshot that is taken afterwards sees at least.
func (r *reader) waitReplay(ctx context.Context, name string, passed lsn.LSN) (lsn.LSN, error) {
	need := passed
	if r.s.cfg.Replica != nil {
		gone, err := r.s.writersGone(ctx, r.s.onPrimary, name)
		if err != nil {
			return 0, err
		}
		if gone != 0 {
			r.s.cfg.Want(r.pages.end(gone))
		}
		need = max(need, r.pages.end(gone))
		r.s.mu.Lock()
		if r.s.last.server != r.server { // another replica, which may be late
			need = max(need, r.s.last.high)
		}
		r.s.mu.Unlock()
	}
	began, pause, told := time.Now(), waitFirst, false
	for {
		var replayed lsn.LSN
		var paused bool
		err := r.conn.QueryRow(ctx, `SELECT coalesce((pg_last_wal_replay_lsn() - '0/0')::bigint, 0), pg_is_in_recovery() AND pg_is_wal_replay_paused()`).Scan(&replayed, &paused)
		if err != nil {
			return 0, fmt.Errorf("asking up to where the standby has replayed the log: %w", classify(err))
		}
		if replayed >= need {
			if told {
				r.s.cfg.Logger.Infof("the standby that the snapshot is read from has replayed the log up to %s", replayed)
			}
			return replayed, nil
		}
		what := fmt.Sprintf("the standby that the snapshot is read from has replayed the log up to %s, and is waited for until it has come to %s", replayed, need)
		if paused {
			what += ": its replay is paused: SELECT pg_wal_replay_resume()"
		}
		if !told && time.Since(began) > waitTold {
			told = true
			r.s.cfg.Logger.Warnf("%s", what)
		}
		if err := sleep(ctx, pause); err != nil {
			return 0, fmt.Errorf("%s: %w", what, err)
		}
		pause = min(2*pause, waitMost)
	}
}

// highOfReplica returns a place of the log after all that a snapshot of a standby sees, asked after the snapshot was taken. A record
// counts as replayed only after its effect can be seen, so the standby's own word is not enough; the primary's is.
func (r *reader) highOfReplica(ctx context.Context) (high lsn.LSN, err error) {
	if r.s.cfg.Replica == nil {
		var replayed, received lsn.LSN
		err = r.conn.QueryRow(ctx, `SELECT coalesce((pg_last_wal_replay_lsn() - '0/0')::bigint, 0), coalesce((pg_last_wal_receive_lsn() - '0/0')::bigint, 0)`).
			Scan(&replayed, &received)
		if received >= replayed && received != 0 { // what is replayed was received
			return received, err
		}
		return replayed + 1, err // the log comes from an archive: the record that is replayed now is the next one
	}
	err = r.s.onPrimary(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint`).Scan(&high)
	})
	if err != nil {
		return 0, fmt.Errorf("asking the primary where its log ends: %w", classify(err))
	}
	high = r.pages.end(high)
	r.s.mu.Lock()
	r.s.last = lastView{r.server, max(high, r.s.last.high)}
	r.s.mu.Unlock()
	return high, nil
}

// errTurned is the error of a server that is a standby, or none, after it was the other.
var errTurned = errors.New("the server was a standby and is none any more, or the other way round: connecting again")
