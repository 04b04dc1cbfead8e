package postgrescdc

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/catalog"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/publication"
	"github.com/deltaforge/deltaforge/internal/coordinator"
	"github.com/deltaforge/deltaforge/internal/fault"
	"github.com/deltaforge/deltaforge/internal/plane"
)

// The slot: how it is made, what it knows of us, and how it goes.

var (
	_ coordinator.Waiter     = (*replication)(nil)
	_ coordinator.Rememberer = (*replication)(nil)
	_ coordinator.LagProber  = (*replication)(nil)
	_ coordinator.Leaver     = (*replication)(nil)
	_ coordinator.Renewer    = (*replication)(nil)
)

// slotPosition returns the position of the slot, which it makes when there is none.
func (r *replication) slotPosition(ctx context.Context, repl *pgconn.PgConn, have *preconditions) (lsn.LSN, error) {
	slot := have.slot
	if slot == nil {
		start, err := r.createSlot(ctx, repl, have.make)
		if err != nil {
			return 0, err
		}
		rest := ": the rows that the tables hold already are not read"
		if r.cfg.loads {
			rest = ""
		}
		r.logger.Infof("created the replication slot %s, which starts at %s%s", r.cfg.slot, start, rest)
		return start, nil
	}
	confirmed, err := lsn.ParseServer(slot.Confirmed)
	if err != nil {
		return 0, fmt.Errorf("slot %s: %w", r.cfg.slot, err)
	}
	return confirmed, nil
}

// slotKind is how a slot is made: the end of the command.
type slotKind string

const (
	plainSlot slotKind = "NOEXPORT_SNAPSHOT"
	// failoverSlot is one that the server gives to its standbys, if they ask for it. A standby cannot have one.
	failoverSlot slotKind = "(SNAPSHOT 'nothing', FAILOVER)"
)

// failoverSince is the first version that has such slots.
const failoverSince = 170000

func kindOfSlot(server serverRow) slotKind {
	if server.version >= failoverSince && !server.standby {
		return failoverSlot
	}
	return plainSlot
}

// createSlot makes the slot. The server waits for every transaction that is open.
func (r *replication) createSlot(ctx context.Context, repl *pgconn.PgConn, kind slotKind) (lsn.LSN, error) {
	made := make(chan struct{})
	told := make(chan struct{})
	pid := repl.PID()
	go func() {
		defer close(told)
		_ = r.guard.Do("wait", func() error { r.tellWait(ctx, pid, made); return nil }) // it is counted and logged; the slot is made all the same
	}()
	slot, err := pglogrepl.ParseCreateReplicationSlot(repl.Exec(ctx, fmt.Sprintf("CREATE_REPLICATION_SLOT %s LOGICAL pgoutput %s", publication.Ident(r.cfg.slot), kind)))
	close(made)
	<-told
	r.waiting.Store(nil)
	if err != nil {
		return 0, classify(fmt.Errorf("creating the replication slot %s: %w", r.cfg.slot, err))
	}
	start, err := lsn.ParseServer(slot.ConsistentPoint)
	if err != nil {
		return 0, fmt.Errorf("creating the replication slot %s: %w", r.cfg.slot, err)
	}
	return start, nil
}

// wait is what a start waits for.
type wait struct {
	what  string
	since time.Time
}

// Waiting implements coordinator.Waiter.
func (r *replication) Waiting() (what string, since time.Time) {
	if w := r.waiting.Load(); w != nil {
		return w.what, w.since
	}
	return "", time.Time{}
}

const (
	// waitTold is how long a slot may take before the log says what it waits for, and the time between two looks at that.
	waitTold = 2 * time.Second
	// waitAsked bounds such a look.
	waitAsked = 5 * time.Second
)

// tellWait says which transaction the server process waits for, until the slot is made.
func (r *replication) tellWait(ctx context.Context, pid uint32, made <-chan struct{}) {
	began := time.Now()
	for {
		select {
		case <-made:
			return
		case <-ctx.Done():
			return
		case <-time.After(waitTold):
		}
		what, err := r.blocker(ctx, pid)
		if err != nil {
			what = fmt.Sprintf("waiting for the replication slot %s to be made; what it waits for is not known: %v", r.cfg.slot, err)
		}
		if what != "" {
			r.warnOnce(what)
			r.waiting.Store(&wait{what, began})
		}
	}
}

// blocker names the transaction that a server process waits for; empty: none.
func (r *replication) blocker(ctx context.Context, pid uint32) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, waitAsked)
	defer cancel()
	conn, err := r.cfg.connect(ctx)
	if err != nil {
		return "", classifyConnect(err)
	}
	defer catalog.Close(ctx, conn)
	rows, err := conn.Query(ctx, `SELECT b.pid, coalesce(a.usename, ''), coalesce(a.application_name, ''), coalesce(a.state, ''),
			coalesce(to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), ''), coalesce(p.gid, '')
		FROM unnest(pg_blocking_pids($1)) b (pid) LEFT JOIN pg_stat_activity a ON a.pid = b.pid
		LEFT JOIN pg_locks l ON b.pid = 0 AND l.pid = $1 AND l.locktype = 'transactionid' AND NOT l.granted
		LEFT JOIN pg_prepared_xacts p ON p.transaction = l.transactionid ORDER BY a.xact_start LIMIT 1`, int32(pid)) //nolint:gosec // a process
	if err != nil {
		return "", err
	}
	what := ""
	var blocker int32
	var user, application, state, since, gid string
	_, err = pgx.ForEachRow(rows, []any{&blocker, &user, &application, &state, &since, &gid}, func() error {
		begin := fmt.Sprintf("the replication slot %s can only be made when the transactions that are open have ended: waiting for ", r.cfg.slot)
		if blocker == 0 {
			what = begin + fmt.Sprintf("the prepared transaction %q: COMMIT PREPARED %s or ROLLBACK PREPARED %s", gid, publication.Literal(gid), publication.Literal(gid))
			return nil
		}
		what = begin + fmt.Sprintf("the transaction of the server process %d (user %q, application %q, %s), open since %s: end it there, or SELECT "+
			"pg_terminate_backend(%d)", blocker, user, application, state, since, blocker)
		return nil
	})
	if err == nil && what == "" {
		what, err = r.awaitsPrimary(ctx, conn)
	}
	return what, err
}

// awaitsPrimary tells what a standby waits for; empty: the server is none.
func (r *replication) awaitsPrimary(ctx context.Context, conn *pgx.Conn) (what string, err error) {
	var standby bool
	if err := conn.QueryRow(ctx, `SELECT pg_is_in_recovery()`).Scan(&standby); err != nil || !standby {
		return "", err
	}
	return fmt.Sprintf("the server is a standby: the replication slot %s can only be made when the transactions that are open on its primary have ended, and the primary "+
		"has written that to its log; an idle primary does that when it is told to: SELECT pg_log_standby_snapshot()", r.cfg.slot), nil
}

// Remember implements coordinator.Rememberer: what the slot has confirmed was delivered and saved.
func (r *replication) Remember(ctx context.Context) (coordinator.Memory, error) {
	conn, err := r.cfg.connect(ctx)
	if err != nil {
		return coordinator.Memory{}, classifyConnect(err)
	}
	defer catalog.Close(ctx, conn)
	slot, err := querySlot(ctx, conn, r.cfg.slot)
	if err != nil {
		return coordinator.Memory{}, classify(err)
	}
	return r.memoryOf(slot), nil
}

// memoryOf is what a slot, nil where there is none, tells of an earlier run.
func (r *replication) memoryOf(slot *slotRow) coordinator.Memory {
	if slot == nil || slot.Type != "logical" { // what else is wrong with it is told by the start
		return coordinator.Memory{}
	}
	confirmed, err := lsn.ParseServer(slot.Confirmed)
	if slot.lost() || err != nil {
		return coordinator.Memory{
			Trace: fmt.Sprintf("the replication slot %q is there, and the server has invalidated it", r.cfg.slot),
			Way:   r.dropStatement(),
		}
	}
	return coordinator.Memory{
		Trace:  fmt.Sprintf("the replication slot %q is there, and has confirmed %s", r.cfg.slot, confirmed),
		Resume: Position{At: confirmed},
	}
}

func (r *replication) dropStatement() string {
	return "SELECT pg_drop_replication_slot(" + publication.Literal(r.cfg.slot) + ")"
}

// ProbeLag implements coordinator.LagProber.
func (r *replication) ProbeLag(ctx context.Context) error {
	conn, err := r.cfg.connect(ctx)
	if err != nil {
		return classifyConnect(err)
	}
	defer catalog.Close(ctx, conn)
	end, err := catalog.ServerEnd(ctx, conn)
	if err == nil {
		r.serverEnd.Store(uint64(end))
	}
	return classify(err)
}

// Leftovers implements coordinator.Leaver: the slot, and the publications that we made.
func (r *replication) Leftovers(ctx context.Context, drop bool) ([]plane.Leftover, error) {
	slot := plane.Leftover{
		What: fmt.Sprintf("the replication slot %s in the database %s, for which the server keeps its log", r.cfg.slot, r.cfg.conn.Database), How: r.dropStatement(),
	}
	if !drop {
		return []plane.Leftover{slot}, nil
	}
	conn, err := r.cfg.connect(ctx)
	if err != nil {
		return []plane.Leftover{slot}, classifyConnect(err)
	}
	defer catalog.Close(ctx, conn)
	var gone []plane.Leftover
	there, err := querySlot(ctx, conn, r.cfg.slot)
	if err != nil {
		return []plane.Leftover{slot}, classify(err)
	}
	if there != nil {
		if _, err := conn.Exec(ctx, r.dropStatement()); err != nil {
			return []plane.Leftover{slot}, classify(fmt.Errorf("dropping the replication slot %s: %w", r.cfg.slot, err))
		}
		slot.Dropped = true
		gone = append(gone, slot)
	}
	names, err := r.cfg.wanted().Drop(ctx, conn)
	for _, name := range names {
		gone = append(gone, plane.Leftover{What: "the publication " + name, How: "DROP PUBLICATION " + publication.Ident(name), Dropped: true})
	}
	return gone, classify(err)
}

// Renew implements coordinator.Renewer. A slot that is there and can be read is moved to the end of the log, so that it keeps what it was made with, such as its
// synchronisation to standbys. One that cannot be read is dropped, and the next Run makes another one.
func (r *replication) Renew(ctx context.Context) error {
	conn, err := r.cfg.connect(ctx)
	if err != nil {
		return classifyConnect(err)
	}
	defer catalog.Close(ctx, conn)
	slot, err := querySlot(ctx, conn, r.cfg.slot)
	if err != nil {
		return classify(err)
	}
	if slot != nil && slot.Type == "logical" && slot.Plugin == "pgoutput" { // what else is wrong with it is told by the start
		if err := r.renewSlot(ctx, conn, slot); err != nil {
			return err
		}
	}
	r.proof.mu.Lock()
	r.proof.saved, r.proof.wanted = 0, false
	r.confirmed.Store(0)
	r.proof.mu.Unlock()
	r.wanted.Store(0)
	r.nudged.Store(0)
	r.seen = nil
	r.history.Forget()
	r.chunks.Forget()
	return nil
}

// renewSlot moves the slot to the end of the log, or drops it.
func (r *replication) renewSlot(ctx context.Context, conn *pgx.Conn, slot *slotRow) error {
	if !slot.lost() {
		_, err := conn.Exec(ctx, `SELECT pg_replication_slot_advance(slot_name, greatest(confirmed_flush_lsn,
			CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END)) FROM pg_replication_slots WHERE slot_name = $1`, r.cfg.slot)
		if err == nil {
			return nil
		}
		if pg, ok := asPgError(err); !ok || pg.Code != codeNotInState && pg.Code != codeUndefinedFile {
			return classify(fmt.Errorf("moving the replication slot %s to the end of the log: %w", r.cfg.slot, err))
		}
	}
	if !r.cfg.createSlot {
		return fault.WithKind(fault.KindPositionLost, fmt.Errorf("the replication slot %s cannot be read any more, and create_slot is off: %s; SELECT "+
			"pg_create_logical_replication_slot(%s, 'pgoutput')", r.cfg.slot, r.dropStatement(), publication.Literal(r.cfg.slot)))
	}
	if _, err := conn.Exec(ctx, r.dropStatement()); err != nil {
		return classify(fmt.Errorf("dropping the replication slot %s, which cannot be read any more: %w", r.cfg.slot, err))
	}
	return nil
}

// lost reports whether the server has thrown away what the slot needs.
func (s *slotRow) lost() bool {
	return s.WALStatus == "lost" || s.InvalidationReason != "" || s.Conflicting
}
