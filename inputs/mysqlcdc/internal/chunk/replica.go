package chunk

import (
	"context"
	"fmt"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// Chunks can be read from a replica. Its GTIDs say what of the log it has; and they prove that it is a replica: what it has executed, the
// server has, too. The end of the log is that of the server, asked for after the replica's view was opened.

// notReplica is the error of a server that cannot be read in place of the one that is streamed.
func (r *reader) notReplica(format string, args ...any) error {
	return fault.WithKind(fault.KindOther, fmt.Errorf("snapshot.dsn: %s cannot stand for %s: %w; leave the field empty to read from the server itself",
		r.source.cfg.Replica.Address, r.source.cfg.Server.Address, fmt.Errorf(format, args...)))
}

// proveReplica connects to the server that is streamed, and makes sure that the reader's server is one of its replicas.
func (r *reader) proveReplica(ctx context.Context) (err error) {
	if r.main, err = open(ctx, &r.source.cfg.Server); err != nil {
		return err
	}
	defer r.main.Interrupt(ctx)()
	if r.mainServer, err = inspect(ctx, r.main.Conn); err != nil {
		return err
	}
	switch {
	case r.mainServer.identity == r.server.identity:
		r.main.Close()
		r.main = nil // it is the server itself
		return nil
	case r.mainServer.flavor != r.server.flavor:
		return r.notReplica("it is a %s, and that a %s", r.server.flavor, r.mainServer.flavor)
	case r.source.cfg.NoGTIDs:
		return r.notReplica("only GTIDs tell what a replica has, and use_gtid is false")
	case r.server.flavor == product.MariaDB:
		return r.proveMariaReplica(ctx)
	case !r.server.gtidMode || !r.mainServer.gtidMode:
		return r.notReplica("only GTIDs tell what a replica has: SET GLOBAL gtid_mode = 'ON' on both (by its steps: OFF_PERMISSIVE, ON_PERMISSIVE, ON)")
	}
	return r.proveMySQLReplica(ctx)
}

func (r *reader) proveMySQLReplica(ctx context.Context) error {
	var foreign *gtid.Set
	var common bool
	err := r.until(ctx, func() (string, error) {
		mine, err := executed(ctx, r.conn)
		if err != nil {
			return "", err
		}
		theirs, err := executed(ctx, r.main)
		if err != nil {
			return "", err
		}
		foreign = mine.Minus(theirs)
		common = theirs.Empty() || mine.Minus(foreign).String() != ""
		if !common || foreign.Empty() || foreign.OnlyFrom(r.server.uuid) || !foreign.HasSource(r.mainServer.uuid) {
			return "", nil
		}
		// A semi-synchronous replica has a transaction before the server has committed it.
		return fmt.Sprintf("the transactions %s, which the replica of snapshot.dsn has and the server has not: their commits wait", foreign), nil
	})
	switch {
	case err != nil:
		return err
	case !common:
		return r.notReplica("it has executed none of its transactions")
	case !foreign.Empty() && !foreign.OnlyFrom(r.server.uuid):
		return r.notReplica("it has executed %s, which that has not", foreign)
	}
	return nil
}

// proveMariaReplica looks whether what the server has applied as a replica is in the log of the other.
func (r *reader) proveMariaReplica(ctx context.Context) error {
	applied, err := r.applied(ctx)
	if err != nil {
		return err
	}
	rows, err := r.main.Query(ctx, "SELECT @@GLOBAL.gtid_binlog_state")
	if err != nil {
		return fmt.Errorf("reading gtid_binlog_state: %w", err)
	}
	if applied.GTIDs() == "" {
		return r.notReplica("it has applied nothing as a replica (gtid_slave_pos is empty)")
	}
	if !applied.IsMadeIn(rows[0][0]) {
		return r.notReplica("it has applied %s, which is not in the log of that, %s", applied.GTIDs(), rows[0][0])
	}
	return nil
}

// applied returns what a MariaDB has applied as a replica.
func (r *reader) applied(ctx context.Context) (*gtid.Position, error) {
	rows, err := r.conn.Query(ctx, "SELECT @@GLOBAL.gtid_slave_pos")
	if err != nil {
		return nil, fmt.Errorf("reading gtid_slave_pos: %w", err)
	}
	return gtid.ParseLoosely(rows[0][0] + "@x.1:4") // it may be empty, a position may not
}

// beginMariaReplica opens a view of a replica of MariaDB, which sees what it has applied before.
func (r *reader) beginMariaReplica(ctx context.Context, v *view, after *gtid.Position) error {
	err := r.until(ctx, func() (waitsFor string, err error) {
		if v.domains, err = r.applied(ctx); err != nil {
			return "", err
		}
		if !after.OnlyGTIDs().NotAfter(v.domains) {
			return fmt.Sprintf("what is in the log up to %s, of which %s is visible: %s", after.GTIDs(), v.domains.GTIDs(), r.heldBy()), nil
		}
		return "", nil
	})
	if err != nil {
		return err
	}
	_, err = r.conn.Query(ctx, snapshotSQL)
	return err
}
