package postgrescdc

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/catalog"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/pgoutput"
	"github.com/deltaforge/deltaforge/internal/coordinator"
)

var _ coordinator.Successor = (*replication)(nil)

// offset is what Debezium's connector for PostgreSQL saves.
type offset struct {
	LSN      lsn.LSN  `json:"lsn"`         // of the last record
	Proc     *lsn.LSN `json:"lsn_proc"`    // the same, once it streams
	Commit   *lsn.LSN `json:"lsn_commit"`  // the end of the last transaction that is delivered whole
	Message  string   `json:"messageType"` // of the last record
	XID      uint32   `json:"txId"`
	Same     int      `json:"lsn_events_processed"` // events with that LSN that are delivered
	Snapshot any      `json:"snapshot"`
	Last     any      `json:"last_snapshot_record"`
}

func parseOffset(text []byte) (o offset, err error) {
	if err := json.Unmarshal(text, &o); err != nil {
		return o, fmt.Errorf("the offset is not one of a connector for PostgreSQL: %w", err)
	}
	if o.LSN == 0 {
		return o, errors.New("the offset is not one of a connector for PostgreSQL: it has no lsn")
	}
	if o.Snapshot != nil && o.Snapshot != false && o.Snapshot != "false" && o.Last != true && o.Last != "true" {
		return o, errors.New("the connector was in its snapshot: let it end, or start DeltaForge without an import and let it load the tables")
	}
	return o, nil
}

// inside reports whether a part of a transaction may be delivered, the one of the offset's number.
func (o *offset) inside() bool {
	switch o.Message {
	case "INSERT", "UPDATE", "DELETE", "TRUNCATE", "MESSAGE":
		return o.Commit != nil && o.Proc != nil && *o.Proc > *o.Commit
	default:
		return false
	}
}

// TakeOver implements coordinator.Successor. The slot has to be the connector's: a new one begins where it is made.
func (r *replication) TakeOver(ctx context.Context, text []byte) (tok checkpoint.Token, err error) {
	o, err := parseOffset(text)
	if err != nil {
		return tok, err
	}
	at := o.LSN
	if o.Commit != nil {
		at = *o.Commit
	}
	repl, _, err := r.connectReplication(ctx)
	if err != nil {
		return tok, err
	}
	sys, err := pglogrepl.IdentifySystem(ctx, repl)
	_ = repl.Close(ctx) // it has done what it was for
	if err != nil {
		return tok, classify(fmt.Errorf("identifying the server: %w", err))
	}
	if end := lsn.LSN(sys.XLogPos); end < at {
		return tok, fmt.Errorf("the offset is at %s, and the server's log ends at %s: it is the offset of another server", at, end)
	}
	conn, err := r.cfg.connect(ctx)
	if err != nil {
		return tok, classifyConnect(err)
	}
	defer catalog.Close(ctx, conn)
	sent, err := r.delivered(ctx, conn, &o)
	if err != nil {
		return tok, err
	}
	return checkpoint.Token{Source: fmt.Sprintf("%s/%d", sys.SystemID, sys.Timeline), Commit: Position{At: at}, Sent: sent}, nil
}

// delivered returns how many events of the transaction that the offset lies in are delivered. It looks into the slot, and leaves it as it is.
func (r *replication) delivered(ctx context.Context, conn *pgx.Conn, o *offset) (uint64, error) {
	var active bool
	err := conn.QueryRow(ctx, "SELECT active FROM pg_replication_slots WHERE slot_name = $1 AND database = current_database()", r.cfg.slot).
		Scan(&active)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return 0, fmt.Errorf("slot: there is no slot %s in the database %s: set slot to the connector's slot.name, which has what follows the offset", r.cfg.slot, conn.Config().Database)
	case err != nil:
		return 0, classify(fmt.Errorf("looking at the slot %s: %w", r.cfg.slot, err))
	case active:
		return 0, fmt.Errorf("slot: %s is in use: stop the connector, and import its offset after that", r.cfg.slot)
	}
	if !o.inside() {
		return 0, nil
	}
	rows, err := conn.Query(ctx, `SELECT (lsn - '0/0')::bigint, xid::text::bigint, substring(data FROM 1 FOR 5)
		FROM pg_logical_slot_peek_binary_changes($1, NULL, NULL, 'proto_version', '1', 'messages', 'true', 'publication_names', (
			SELECT string_agg(quote_ident(pubname), ',') FROM pg_publication WHERE pubname = ANY ($2)))`,
		r.cfg.slot, []string{r.cfg.publication, r.cfg.wanted().InsertsName()})
	if err != nil {
		return 0, classify(fmt.Errorf("reading the slot %s: %w", r.cfg.slot, err))
	}
	var c counter
	var place, xid int64
	var head []byte
	_, err = pgx.ForEachRow(rows, []any{&place, &xid, &head}, func() error {
		if uint32(xid) == o.XID && len(head) > 0 {
			c.message(o, lsn.LSN(place), head)
		}
		return nil
	})
	if err != nil {
		return 0, classify(fmt.Errorf("reading the slot %s: %w", r.cfg.slot, err))
	}
	if !c.found {
		return 0, fmt.Errorf("slot: %s does not have the transaction %d that the offset lies in: it is not the connector's slot, or publication is not the connector's", r.cfg.slot, o.XID)
	}
	return c.sent, nil
}

// counter counts the events of a transaction, and those of them that are delivered.
type counter struct {
	index, sent uint64
	same        int // those at the place of the offset
	found       bool
}

func (c *counter) message(o *offset, at lsn.LSN, head []byte) {
	c.found = true
	n := uint64(0)
	switch head[0] {
	case pgoutput.MsgInsert, pgoutput.MsgUpdate, pgoutput.MsgDelete, pgoutput.MsgMessage:
		n = 1
	case pgoutput.MsgTruncate:
		if len(head) == 5 {
			n = uint64(binary.BigEndian.Uint32(head[1:]))
		}
	}
	c.index += n
	switch {
	case n == 0 || at > *o.Proc:
	case at < *o.Proc:
		c.sent = c.index
	case c.same < max(o.Same, 1): // several events may have one place
		c.same++
		c.sent = c.index
	}
}
