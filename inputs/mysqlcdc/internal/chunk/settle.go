package chunk

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/wire"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// A MySQL without GTIDs does not say what its engines have committed. settler finds places in the log before which all is: it asks where
// the log ends, and then looks at the transactions that the engine has not ended yet. Those that are in the log before that place are in
// their commits, so each other one proves by what it does that it is not. The place is settled when none is left that may be.
//
// (performance_schema.log_status would wait for the commits as well, and let all that begin meanwhile wait with it.)
type settler struct {
	turn     chan struct{} // held by whoever uses what is below
	question int
	settled  *gtid.Position // nil: none yet
	pending  *gtid.Position // nil: none
	// suspects are the transactions that may be in the log before pending, and not committed; nil before the first look.
	suspects map[string]suspect
	looked   time.Time
	// aged are ends of the log with the time when they were seen, where the account may not look at transactions.
	aged []agedPlace
}

type suspect struct{ thread, what string }

type agedPlace struct {
	place *gtid.Position
	seen  time.Time
}

const (
	// lookEvery is the time between two looks. MySQL shows transactions as they were at the last look while looks come faster than ten in a
	// second.
	lookEvery = 120 * time.Millisecond
	// settleAge is how old a place is, at the least, when the account may not look. A commit between log and engine waits for nothing then
	// but a processor, and room in the redo log.
	settleAge = 3 * time.Second
)

// settle returns the last place before which all is committed, nil when there is none yet, and what keeps the next one from being that.
// It looks at the server when it has not done so for a moment, over a connection that is in no transaction.
func (s *settler) settle(ctx context.Context, q querier) (at *gtid.Position, waitsFor string, err error) {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, "", ctx.Err()
	}
	defer func() { <-s.turn }()
	if time.Since(s.looked) >= lookEvery {
		if err := s.look(ctx, q); err != nil {
			return nil, "", err
		}
		s.looked = time.Now()
	}
	for id, why := range s.suspects {
		waitsFor = fmt.Sprintf("the commit of transaction %s of thread %s (%s), which may be in the log before %s: SHOW PROCESSLIST tells what it "+
			"waits for, a semi-synchronous replica perhaps", id, why.thread, why.what, s.pending)
	}
	return s.settled, waitsFor, nil
}

func (s *settler) look(ctx context.Context, q querier) (err error) {
	if s.pending == nil {
		if s.pending, err = logEnd(ctx, q.Query); err != nil {
			return err
		}
		s.suspects = nil
	}
	open, fresh, err := s.transactions(ctx, q)
	if wire.IsServerError(err, mysql.ER_SPECIFIC_ACCESS_DENIED_ERROR) {
		return s.age(ctx, q, err)
	}
	if err != nil || !fresh {
		return err
	}
	cleared, err := s.cleared(ctx, q, open)
	if err != nil {
		return err
	}
	was := s.suspects
	s.suspects = map[string]suspect{}
	for id, t := range open {
		if _, suspected := was[id]; (was == nil || suspected) && !cleared[id] {
			s.suspects[id] = t
		}
	}
	if len(s.suspects) == 0 {
		s.settled, s.pending = s.pending, nil
	}
	return nil
}

// transactions returns the transactions that InnoDB has not ended and that do not say themselves that they are not in their commit. They
// are fresh when they are those of now: the server may show what it has shown before.
func (s *settler) transactions(ctx context.Context, q querier) (open map[string]suspect, fresh bool, err error) {
	if _, err := q.Query(ctx, snapshotSQL); err != nil { // so that this session has a transaction that is listed
		return nil, false, err
	}
	s.question++
	mark := fmt.Sprintf("look %d", s.question)
	rows, err := q.Query(ctx, "SELECT /* "+mark+" */ TRX_ID, TRX_MYSQL_THREAD_ID, TRX_STATE, IFNULL(TRX_OPERATION_STATE, ''), "+
		"IFNULL(TRX_QUERY, ''), TRX_MYSQL_THREAD_ID = CONNECTION_ID() FROM information_schema.INNODB_TRX")
	if err != nil {
		return nil, false, err
	}
	if _, err := q.Query(ctx, "ROLLBACK"); err != nil {
		return nil, false, err
	}
	open = map[string]suspect{}
	for _, r := range rows {
		switch {
		case r[5] == "1":
			fresh = strings.Contains(r[4], mark+" ")
		case r[2] == "LOCK WAIT": // for a row
		case r[3] != "" && !strings.Contains(r[3], "commit") && !strings.Contains(r[3], "prepar"): // it reads or writes rows
		default:
			open[r[0]] = suspect{thread: r[1], what: "it has no state"}
		}
	}
	return open, fresh, nil
}

// cleared returns the transactions whose sessions are not in a commit now.
func (s *settler) cleared(ctx context.Context, q querier, open map[string]suspect) (map[string]bool, error) {
	if len(open) == 0 {
		return nil, nil
	}
	rows, err := q.Query(ctx, "SELECT ID, COMMAND, IFNULL(STATE, ''), IFNULL(LEFT(INFO, 1000), ''), USER FROM information_schema.PROCESSLIST")
	if wire.IsServerError(err, mysql.ER_UNKNOWN_TABLE) {
		rows, err = q.Query(ctx, "SELECT ID, COMMAND, IFNULL(STATE, ''), IFNULL(LEFT(INFO, 1000), ''), USER FROM performance_schema.processlist")
	}
	if err != nil {
		return nil, fmt.Errorf("reading the process list: %w", err)
	}
	busy := map[string]string{}
	endsXA := false
	for _, r := range rows {
		id, command, state, text, user := r[0], r[1], r[2], strings.ToUpper(r[3]), r[4]
		if command == "Sleep" || slices.Contains(notInCommit, state) {
			continue
		}
		busy[id] = state
		endsXA = endsXA || user == "system user" || strings.Contains(text, "XA") && strings.Contains(text, "COMMIT")
	}
	cleared := map[string]bool{}
	for id, t := range open {
		state, suspected := busy[t.thread]
		if t.thread == "0" { // prepared by a session that is gone: any other may commit it
			suspected = endsXA
		}
		if !suspected {
			cleared[id] = true
			continue
		}
		open[id] = suspect{t.thread, state}
	}
	return cleared, nil
}

// notInCommit are states of sessions that have something else to do than a commit, or nothing. A state that is missing here costs time, no
// more.
//
//nolint:gochecknoglobals // a constant
var notInCommit = []string{
	"executing", "updating", "update", "Sending data", "Sending to client", "statistics", "optimizing", "preparing", "Creating sort index",
	"Creating tmp table", "Copying to tmp table", "Searching rows for update", "Opening tables", "System lock", "User sleep", "Reading from net",
	"Waiting for table metadata lock", "Waiting for table level lock", "Waiting for an event from Coordinator",
	"Replica has read all relay log; waiting for more updates", "Slave has read all relay log; waiting for more updates",
	"Waiting for source to send event", "Waiting for master to send event",
	"Source has sent all binlog to replica; waiting for more updates", "Master has sent all binlog to slave; waiting for more updates",
	"Waiting on empty queue", "Waiting for next activation", "altering table", "copy to tmp table", "Waiting for global read lock",
}

// age settles a place by its age, where the account may not look at transactions. Where commits may wait between log and engine, that tells
// nothing.
func (s *settler) age(ctx context.Context, q querier, denied error) error {
	rows, err := q.Query(ctx, "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('rpl_semi_sync_source_enabled', 'rpl_semi_sync_master_enabled', "+
		"'binlog_order_commits')")
	if err != nil {
		return err
	}
	for _, r := range rows {
		on := strings.EqualFold(r[1], "ON")
		if on == (r[0] != "binlog_order_commits") {
			return fault.WithKind(fault.KindPermission, fmt.Errorf("%s is %s, and gtid_mode is not ON: then only the list of its transactions tells "+
				"what of the log is visible: GRANT PROCESS ON *.* to the account, or SET GLOBAL gtid_mode = 'ON' (by its steps: "+
				"OFF_PERMISSIVE, ON_PERMISSIVE, ON): %w", r[0], r[1], denied))
		}
	}
	now := time.Now()
	s.aged = append(s.aged, agedPlace{s.pending, now})
	s.pending = nil
	for len(s.aged) > 0 && now.Sub(s.aged[0].seen) >= settleAge {
		s.settled, s.aged = s.aged[0].place, s.aged[1:]
	}
	return nil
}

// Visible waits until all is visible that is in the log of a MySQL now, and returns the place. It is for positions without GTIDs.
func (s *Source) Visible(ctx context.Context) (at *gtid.Position, err error) {
	conn, err := open(ctx, &s.cfg.Server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer conn.Interrupt(ctx)()
	end, err := logEnd(ctx, conn.Query)
	if err != nil {
		return nil, err
	}
	err = s.until(ctx, func() (waitsFor string, err error) {
		at, waitsFor, err = s.settledAt(ctx, conn, end)
		return waitsFor, err
	})
	return at, err
}

// settledAt returns a place before which all is visible; it waits for something while that is before the place that is wanted.
func (s *Source) settledAt(ctx context.Context, q querier, wanted *gtid.Position) (at *gtid.Position, waitsFor string, err error) {
	at, waitsFor, err = s.commit.settle(ctx, q)
	switch {
	case err != nil || at != nil && at.Reaches(wanted):
		return at, "", err
	case waitsFor == "":
		waitsFor = "commits before " + wanted.Place()
	}
	return at, waitsFor, nil
}

// beginPlaces opens a view of a MySQL whose positions are places. What is visible for certain is what was settled before.
func (r *reader) beginPlaces(ctx context.Context, v *view, after *gtid.Position) error {
	err := r.until(ctx, func() (waitsFor string, err error) {
		v.before, waitsFor, err = r.source.settledAt(ctx, r.conn, after)
		return waitsFor, err
	})
	if err != nil {
		return err
	}
	_, err = r.conn.Query(ctx, snapshotSQL)
	return err
}
