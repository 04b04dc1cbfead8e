package mysqlcdc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/catalog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/wire"
	"github.com/deltaforge/deltaforge/internal/coordinator"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// What a transaction has written to the log may not count in the end. A MariaDB that dies while it writes leaves a part of a transaction
// at the end of the file, and gives the same GTID to another one later; MySQL cuts such a part off when it starts. And in a transaction
// that has changed tables without transactions too, MariaDB logs what was undone later, with the statement that undoes it. So the
// segments of a transaction are held until its end has been read. Those of a large one of MariaDB are held until a second connection has
// seen that it has an end.

// heldSegment is a segment that is not sent yet.
type heldSegment struct {
	seg coordinator.Segment
	// db and table are whose rows it has; empty for an event of a statement, which nothing undoes.
	db, table string
}

// savepoint is a place in a transaction that it may go back to.
type savepoint struct {
	name string
	// held is how many segments were held; sent says that there were others before.
	held int
	sent bool
}

// maxHeld is how many bytes of a transaction are held, at most, before its end is looked for.
const maxHeld = 4 << 20

// hold keeps a segment back, and sends those before it as far as they are known to count.
func (s *session) hold(ctx context.Context, h heldSegment, now time.Time) error {
	if err := s.release(ctx); err != nil {
		return err
	}
	h.seg.CommitTime, h.seg.ReadAt, h.seg.Bytes = s.tx.tx.CommitTime, now, s.bytes
	s.held = append(s.held, h)
	s.heldBytes += s.bytes
	s.bytes = 0
	return nil
}

// release sends the segments that are held, if they are known to count.
func (s *session) release(ctx context.Context) error {
	if len(s.held) == 0 {
		return nil
	}
	if s.excerpt == nil {
		if s.heldBytes <= maxHeld {
			return nil
		}
		if s.flavor == product.MariaDB {
			if ends, err := s.hasEnd(ctx); err != nil || !ends {
				return err
			}
		}
	}
	return s.sendHeld(ctx, len(s.held))
}

// sendHeld sends the first n of the segments that are held.
func (s *session) sendHeld(ctx context.Context, n int) error {
	for i, h := range s.held[:n] {
		if err := s.send(ctx, h.seg); err != nil {
			return err
		}
		s.held[i] = heldSegment{}
	}
	s.held, s.heldBytes = append(s.held[:0], s.held[n:]...), 0
	s.tx.sent = true
	for i := range s.tx.savepoints {
		p := &s.tx.savepoints[i]
		p.held, p.sent = max(p.held-n, 0), p.sent || p.held < n
	}
	return nil
}

// hasEnd finds out whether the transaction that is being read has an end, and remembers the answer. In the file that the server writes to
// it has one, since a dump goes no further than what is committed. In an older one the end is looked for over a second connection.
func (s *session) hasEnd(ctx context.Context) (bool, error) {
	t := s.tx
	if t.looked {
		return t.ends, nil
	}
	files, err := s.logFiles(ctx)
	if err != nil {
		return false, err
	}
	if files[len(files)-1].Name == s.file {
		t.looked, t.ends = true, true
		return true, nil
	}
	return s.lookForEnd(ctx)
}

// lookForEnd reads the transaction that is being read over a second connection, up to its end.
func (s *session) lookForEnd(ctx context.Context) (bool, error) {
	t := s.tx
	in, err := s.excerpts(ctx, &gtid.Position{File: s.file, Pos: t.at})
	if err != nil {
		return false, fmt.Errorf("looking for the end of the transaction that begins at %s:%d: %w", s.file, t.at, err)
	}
	defer in.Close()
	for begun := false; ; {
		event, _, err := in.next()
		switch {
		case ctx.Err() != nil:
			return false, ctx.Err()
		case errors.Is(err, errNoPrepared), wire.IsTorn(err):
			t.looked = true
			return false, nil
		case err != nil:
			return false, err
		}
		h, body, err := binlog.ParseHeader(event)
		if err != nil {
			return false, s.protocolError("%w", err)
		}
		switch h.Kind {
		case replication.MARIADB_GTID_EVENT:
			t.looked = t.looked || begun // another one begins
			begun = true
		case replication.XID_EVENT, replication.XA_PREPARE_LOG_EVENT:
			t.looked, t.ends = true, true
		case replication.QUERY_EVENT, replication.MARIADB_QUERY_COMPRESSED_EVENT:
			if q, err := binlog.ParseQuery(h.Kind, body, s.flavor); err == nil {
				k := statement.Parse(string(q.Text), statement.Mode{}, s.dialect).Kind
				t.ends = k == statement.Commit || k == statement.Rollback
				t.looked = t.ends
			}
		default:
		}
		if t.looked {
			return t.ends, nil
		}
	}
}

// abandon forgets the transaction that is being read when something follows that can only follow its end: it never ended, so it was
// never committed.
func (s *session) abandon() error {
	t := s.tx
	if t == nil || s.excerpt != nil {
		return nil
	}
	s.name(t)
	if t.sent || t.rows && s.flavor == product.MySQL {
		return s.protocolError("the transaction %s before it has no end, and events of it may be delivered already", t.tx.Position)
	}
	if t.rows {
		s.log.logger.Warnf("Transaction %s, before %s, has no end: the server died while it wrote it. It was never committed, and is left out",
			t.tx.Position, s.place())
	}
	s.tx, s.skip, s.held, s.heldBytes = nil, 0, nil, 0
	s.tables.Take()
	return nil
}

// passTorn goes on in the next file when the server refuses to read on since this one ends inside an event, as a MariaDB leaves it that
// dies while it writes. What is torn was never committed, like a transaction without an end. It reports whether that is so.
func (s *session) passTorn(ctx context.Context, refused error) (bool, error) {
	if s.flavor != product.MariaDB || !wire.IsTorn(refused) {
		return false, nil
	}
	files, err := s.logFiles(ctx)
	if err != nil {
		return false, err
	}
	i := slices.IndexFunc(files, func(f catalog.LogFile) bool { return f.Name == s.file })
	if i < 0 || i == len(files)-1 {
		return false, nil
	}
	s.log.logger.Warnf("%s ends inside an event, at %s: the server died while it wrote it. The source goes on in %s", s.file, s.place(), files[i+1].Name)
	if err := s.abandon(); err != nil {
		return false, err
	}
	s.stream.Close()
	s.checksums = false // a stream says anew whether it has them
	next := &gtid.Position{File: files[i+1].Name, Pos: 4}
	s.stream, err = s.log.cfg.dumpServer().OpenDump(ctx, s.dumpRequest(next, false, s.log.cfg.replicaUUID, s.log.cfg.serverID))
	return err == nil, err
}

// setSavepoint remembers a place that the transaction may go back to; a name that is there already moves.
func (s *session) setSavepoint(name string) {
	t := s.tx
	t.savepoints = slices.DeleteFunc(t.savepoints, func(p savepoint) bool { return strings.EqualFold(p.name, name) })
	t.savepoints = append(t.savepoints, savepoint{name: name, held: len(s.held)})
}

// rollBackTo takes out what a transaction undoes by going back to a savepoint.
func (s *session) rollBackTo(ctx context.Context, name string) error {
	for i, p := range slices.Backward(s.tx.savepoints) {
		if strings.EqualFold(p.name, name) {
			s.tx.savepoints = s.tx.savepoints[:i+1]
			return s.undo(ctx, p)
		}
	}
	return nil // set before anything was logged: a server that logs the one has logged the other
}

// undo takes out the rows of tables with transactions that are held since a savepoint. Those of others stay changed.
func (s *session) undo(ctx context.Context, p savepoint) error {
	if p.sent {
		return fault.WithKind(fault.KindProtocol, fmt.Errorf("the rollback that ends at %s undoes changes of a transaction that "+
			"is too large to be held (more than %d bytes), and events of it are delivered already", s.place(), maxHeld))
	}
	kept := s.held[:p.held:p.held]
	for _, h := range s.held[p.held:] {
		undone := false
		if h.table != "" {
			var err error
			if undone, err = s.catalog.Transactional(ctx, h.db, h.table); err != nil {
				return fmt.Errorf("the rollback that ends at %s undoes changes of %s.%s if its engine has transactions: %w", s.place(), h.db, h.table, err)
			}
		}
		if !undone {
			kept = append(kept, h)
		}
	}
	s.held = kept
	return nil
}
