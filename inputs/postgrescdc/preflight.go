package postgrescdc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/publication"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// minServerVersion is PostgreSQL 14, the first with logical messages in pgoutput.
const minServerVersion = 140000

// preconditions is what preflight found on the server.
type preconditions struct {
	slot  *slotRow // nil when there is none
	make  slotKind // of a slot that there is not
	role  publication.Role
	state *publication.State
	plan  *publication.Plan
}

// slotRow is a row of pg_replication_slots, whose columns differ between versions.
type slotRow struct {
	Plugin             string `json:"plugin"`
	Type               string `json:"slot_type"`
	Database           string `json:"database"`
	ActivePID          int    `json:"active_pid"`
	Confirmed          string `json:"confirmed_flush_lsn"`
	WALStatus          string `json:"wal_status"`
	InvalidationReason string `json:"invalidation_reason"` // since 17
	Synced             bool   `json:"synced"`              // since 17: a standby has it from its primary
	Conflicting        bool   `json:"conflicting"`         // since 16
}

// serverRow is what preflight needs to know about server and role.
type serverRow struct {
	version              int
	walLevel             string
	maxSlots, maxSenders int
	slots, senders       int
	super, replication   bool
	role                 string
	database             string
	create               bool // may create publications
	standby              bool
}

// problems gathers every unmet precondition. The first one's kind counts.
type problems struct {
	kind fault.Kind
	list []error
}

func (p *problems) add(kind fault.Kind, format string, args ...any) {
	p.addError(kind, fmt.Errorf(format, args...))
}

func (p *problems) addError(kind fault.Kind, err error) {
	if p.kind == "" || kind == fault.KindPositionLost {
		p.kind = kind
	}
	p.list = append(p.list, err)
}

func (p *problems) err() error {
	return fault.WithKind(p.kind, errors.Join(p.list...))
}

// preflight checks everything the server must have before the stream can start. It changes nothing.
func (r *replication) preflight(ctx context.Context, conn *pgx.Conn, source string, saved Position) (*preconditions, error) {
	server, err := queryServer(ctx, conn)
	if err != nil {
		return nil, classify(err)
	}
	var p problems
	if server.version < minServerVersion {
		p.add(fault.KindProtocol, "the server is PostgreSQL %d, want 14 or newer", server.version/10000)
	}
	if server.walLevel != "logical" {
		p.add(fault.KindOther, "wal_level is %s, want logical: ALTER SYSTEM SET wal_level = 'logical'; then restart the server",
			server.walLevel)
	}
	if !server.super && !server.replication {
		p.add(fault.KindPermission, "role %s may not replicate: ALTER ROLE %s REPLICATION", server.role, publication.Ident(server.role))
	}
	if server.senders >= server.maxSenders {
		p.add(fault.KindConnect, "all %d WAL senders are in use: ALTER SYSTEM SET max_wal_senders = %d; then restart the server",
			server.maxSenders, server.maxSenders+10)
	}
	have := &preconditions{}
	if have.slot, err = querySlot(ctx, conn, r.cfg.slot); err != nil {
		return nil, classify(err)
	}
	r.checkIdentity(ctx, conn, &p, source, saved)
	r.checkSlot(&p, server, have.slot, saved)
	have.role = publication.Role{
		Name: server.role, Database: server.database, Version: server.version, Super: server.super, Create: server.create, Fresh: have.slot == nil,
	}
	have.make = kindOfSlot(server)
	if err := r.checkPublication(ctx, conn, &p, have); err != nil {
		return nil, classify(err)
	}
	if len(have.plan.Problems) == 0 && len(have.plan.Statements) > 0 && server.standby {
		p.add(fault.KindOther, "the server is a standby, which takes no statements that write: run on its primary: %s", strings.Join(have.plan.Statements, "; "))
	}
	return have, p.err()
}

// checkPublication works out what the publication lacks. What we may not mend ourselves is a problem.
func (r *replication) checkPublication(ctx context.Context, conn *pgx.Conn, p *problems, have *preconditions) (err error) {
	wanted := r.cfg.wanted()
	if have.state, err = wanted.Look(ctx, conn, have.role.Version); err != nil {
		return err
	}
	have.plan = wanted.Plan(have.state, have.role)
	for _, problem := range have.plan.Problems {
		p.addError(problem.Kind, errors.New(problem.Text))
	}
	if len(have.plan.Problems) == 0 {
		for _, text := range have.plan.Warnings {
			r.warnOnce(text)
		}
	}
	return nil
}

func queryServer(ctx context.Context, conn *pgx.Conn) (s serverRow, err error) {
	err = conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, current_setting('wal_level'),
		current_setting('max_replication_slots')::int, current_setting('max_wal_senders')::int,
		(SELECT count(*) FROM pg_replication_slots)::int, (SELECT count(*) FROM pg_stat_replication)::int,
		r.rolsuper, r.rolreplication OR EXISTS (SELECT 1 FROM pg_roles m WHERE m.rolname = 'rds_replication'
			AND pg_has_role(r.oid, m.oid, 'MEMBER')),
		r.rolname, current_database(), has_database_privilege(current_database(), 'CREATE'),
		pg_is_in_recovery()
		FROM pg_roles r WHERE r.rolname = current_user`).
		Scan(&s.version, &s.walLevel, &s.maxSlots, &s.maxSenders, &s.slots, &s.senders, &s.super, &s.replication, &s.role,
			&s.database, &s.create, &s.standby)
	if err != nil {
		return s, fmt.Errorf("reading the server's settings: %w", err)
	}
	return s, nil
}

func querySlot(ctx context.Context, conn *pgx.Conn, name string) (*slotRow, error) {
	var text []byte
	err := conn.QueryRow(ctx, `SELECT row_to_json(s)::text FROM pg_replication_slots s WHERE slot_name = $1`, name).Scan(&text)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // no slot is an answer
	}
	if err != nil {
		return nil, fmt.Errorf("looking up the replication slot %s: %w", name, err)
	}
	var s slotRow
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("looking up the replication slot %s: %w", name, err)
	}
	return &s, nil
}

// checkIdentity finds a checkpoint of another server early, so that the missing slot is not all that is said. Where the role
// may not ask, the replication connection tells.
func (r *replication) checkIdentity(ctx context.Context, conn *pgx.Conn, p *problems, source string, saved Position) {
	id, _, _ := strings.Cut(source, "/")
	var now string
	if id == "" || conn.QueryRow(ctx, `SELECT system_identifier::text FROM pg_control_system()`).Scan(&now) != nil {
		return
	}
	if id != now {
		p.addError(fault.KindPositionLost, r.otherServer(id, now, saved))
	}
}

func (r *replication) checkSlot(p *problems, server serverRow, slot *slotRow, saved Position) {
	name := r.cfg.slot
	drop := "SELECT pg_drop_replication_slot(" + publication.Literal(name) + ")"
	create := "SELECT pg_create_logical_replication_slot(" + publication.Literal(name) + ", 'pgoutput')"
	if slot == nil {
		switch {
		case saved.At != 0:
			p.addError(fault.KindPositionLost, positionLost("the replication slot %s is gone, and with it the log after the "+
				"saved position %s: %s", name, saved.At, r.goOnWithout()))
		case !r.cfg.createSlot:
			p.add(fault.KindOther, "there is no replication slot %s and create_slot is off: %s", name, create)
		case server.slots >= server.maxSlots:
			p.add(fault.KindOther, "all %d replication slots are in use: drop one that is not needed (SELECT slot_name FROM "+
				"pg_replication_slots WHERE NOT active), or ALTER SYSTEM SET max_replication_slots = %d; then restart the server",
				server.maxSlots, server.maxSlots+10)
		}
		return
	}
	if slot.Type != "logical" || slot.Plugin != "pgoutput" {
		p.add(fault.KindOther, "replication slot %s is %s with the plugin %q, want logical with pgoutput: choose another slot, or %s; %s",
			name, slot.Type, slot.Plugin, drop, create)
		return
	}
	if slot.Database != server.database {
		p.add(fault.KindOther, "replication slot %s belongs to the database %s, the dsn names %s: choose another slot, or connect "+
			"to %s", name, slot.Database, server.database, slot.Database)
	}
	if slot.ActivePID != 0 && !r.testing {
		p.add(fault.KindConnect, "replication slot %s is in use by the server process %d: stop the other reader, or SELECT "+
			"pg_terminate_backend(%d)", name, slot.ActivePID, slot.ActivePID)
	}
	if slot.Synced && server.standby {
		p.add(fault.KindConnect, "the server is a standby, and has the replication slot %s from its primary: waiting until it is promoted; until then, connect to the "+
			"primary", name)
		return
	}
	if slot.lost() {
		reason := slot.InvalidationReason
		if reason == "" {
			reason = "wal_status " + slot.WALStatus
		}
		p.addError(fault.KindPositionLost, positionLost("the server has invalidated the replication slot %s (%s), so the log "+
			"after %s is gone: %s; raise max_slot_wal_keep_size against the next time", name, reason, savedOr(saved), r.goOnWithout()))
		return
	}
	if confirmed, err := lsn.ParseServer(slot.Confirmed); err == nil && saved.At != 0 && confirmed > saved.At {
		p.addError(fault.KindPositionLost, positionLost("the replication slot %s starts at %s, ahead of the saved position %s: it "+
			"was re-created or advanced by someone else, and the changes between are gone: %s", name, confirmed, saved.At, r.goOnWithout()))
	}
}

func savedOr(saved Position) string {
	if saved.At == 0 {
		return "its position"
	}
	return "the saved position " + saved.At.String()
}
