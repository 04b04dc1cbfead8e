package mysqlcdc

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/catalog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/filter"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/needs"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/internal/fault"
)

const (
	startLatest   = "latest"
	startEarliest = "earliest"
)

func lost(format string, args ...any) error {
	return lostUnless("bring back what is missing, or begin anew with `deltaforge checkpoint reset KEY`, which leaves out what lies between",
		format, args...)
}

// lostUnless is an error of a lost position with a way out.
func lostUnless(way, format string, args ...any) error {
	return fault.WithKind(fault.KindPositionLost,
		fmt.Errorf("%w: %w: %s", fault.ErrPositionLost, fmt.Errorf(format, args...), way))
}

// savedOrConfigured returns the position that is saved, else the one that the configuration names; nil for latest or earliest.
func (s *session) savedOrConfigured(from checkpoint.Token) (*gtid.Position, error) {
	if from.Commit != nil {
		if p, ok := from.Commit.(*gtid.Position); ok {
			return p, nil
		}
		p, err := gtid.ParsePosition(from.Commit.String())
		if err != nil {
			return nil, fmt.Errorf("the saved checkpoint: %w", err)
		}
		return p, nil
	}
	if s.log.renewed {
		return nil, nil
	}
	return s.log.cfg.startAt, nil
}

// startPosition returns where to start and has checked that the server still has what follows it.
func (s *session) startPosition(ctx context.Context, from checkpoint.Token) (*gtid.Position, error) {
	p, err := s.savedOrConfigured(from)
	if err != nil {
		return nil, err
	}
	switch {
	case p != nil && from.Commit != nil:
		return s.resume(ctx, p, from.Source)
	case p != nil:
		return s.startAt(ctx, p)
	case s.log.cfg.start == startEarliest && !s.log.renewed:
		return s.earliest(ctx)
	default:
		return s.end, nil
	}
}

// endOfLog asks where the binlog ends.
func (s *session) endOfLog(ctx context.Context) (*gtid.Position, error) {
	end, err := s.catalog.LogEnd(ctx)
	if err != nil {
		return nil, err
	}
	s.withheld = filter.ParseWithheld(end.Do, end.Ignore)
	if s.flavor == product.MariaDB {
		return s.withMariaGTIDs(ctx, &end.At)
	}
	if s.log.cfg.useGTID != useGTIDNever && s.gtidMode() {
		set, err := gtid.ParseLoosely(end.Executed + "@" + end.At.Place())
		if err != nil {
			return nil, fmt.Errorf("asking for the end of the binlog: %w", err)
		}
		return set, nil
	}
	return &end.At, nil
}

// withMariaGTIDs returns a place in MariaDB's files with the GTIDs before it, unless they shall not be used. Of a place after 4 GiB the
// server does not know them.
func (s *session) withMariaGTIDs(ctx context.Context, p *gtid.Position) (*gtid.Position, error) {
	if s.log.cfg.useGTID == useGTIDNever || p.Pos > maxDumpPos {
		return p, nil
	}
	return s.catalog.MariaGTIDsAt(ctx, p)
}

// logFiles asks for the files of the binlog, and keeps the answer for LagBytes.
func (s *session) logFiles(ctx context.Context) ([]catalog.LogFile, error) {
	files, err := s.catalog.LogFiles(ctx)
	if err != nil {
		return nil, err
	}
	s.log.files.Store(&files)
	return files, nil
}

// earliest returns the start of the oldest file.
func (s *session) earliest(ctx context.Context) (*gtid.Position, error) {
	files, err := s.logFiles(ctx)
	if err != nil {
		return nil, err
	}
	p := &gtid.Position{File: files[0].Name, Pos: 4}
	switch {
	case !s.useGTID:
		return p, nil
	case s.flavor == product.MariaDB:
		return s.withMariaGTIDs(ctx, p)
	default:
		set, err := gtid.ParseLoosely(s.vars["gtid_purged"] + "@" + p.Place())
		if err != nil {
			return nil, fmt.Errorf("reading gtid_purged: %w", err)
		}
		return set, nil
	}
}

// dumpError gives a meaning to an error that ends the dump.
func (s *session) dumpError(ctx context.Context, err error) error {
	var my *mysql.MyError
	if !errors.As(err, &my) {
		return s.stream.Classify(fmt.Errorf("reading the binlog from %s: %w", s.log.cfg.server.Address, err), fault.KindConnect)
	}
	switch {
	case my.Code == mysql.ER_SPECIFIC_ACCESS_DENIED_ERROR:
		return needs.Unmet(fault.KindPermission, "the account may not read the binlog: GRANT REPLICATION SLAVE ON *.* TO %s: %w",
			s.needs().Account(), err)
	case my.Code == mysql.ER_MASTER_FATAL_ERROR_READING_BINLOG && strings.Contains(my.Message, "same server"):
		return needs.Unmet(fault.KindOther, "another replica with server_id %d has connected: set server_id of this input to a number "+
			"that no other replica has: %w", s.log.cfg.serverID, err)
	case my.Code == mysql.ER_MASTER_FATAL_ERROR_READING_BINLOG && strings.Contains(my.Message, "max_allowed_packet"):
		return needs.Unmet(fault.KindProtocol, "an event is larger than the server's max_allowed_packet: SET GLOBAL "+
			"max_allowed_packet = 1073741824: %w", err)
	case my.Code == mysql.ER_MASTER_FATAL_ERROR_READING_BINLOG && strings.Contains(my.Message, "anonymous transaction"):
		return s.anonymous(my)
	case my.Code == mysql.ER_MASTER_FATAL_ERROR_READING_BINLOG, my.Code == 1220, // a file that cannot be opened
		my.Code >= 1944 && my.Code <= 1947: // MariaDB's GTID errors
		if s.created != 0 {
			if err := s.prove(ctx); errors.Is(err, fault.ErrPositionLost) {
				return err
			}
		}
		return lost("position %s: the server says %w; its binlog ends at %s", s.position, my, s.end)
	default:
		return s.stream.Classify(fmt.Errorf("reading the binlog: %w", err), fault.KindProtocol)
	}
}

// anonymous is what MySQL's refusal to send a transaction without GTID means. It sends none while gtid_mode is ON, however it is asked.
func (s *session) anonymous(err error) error {
	if !s.byGTIDs {
		return lostUnless("nothing is lost yet: SET GLOBAL gtid_mode = 'ON_PERMISSIVE', let the source read on, and switch it ON again when the "+
			"source has passed them", "after position %s there are transactions without GTID, which a server does not send while its gtid_mode "+
			"is ON: the server says %w", s.position, err)
	}
	if s.position.Created != 0 {
		// The next session asks for the place.
		return fault.WithKind(fault.KindProtocol, fmt.Errorf("after position %s there are transactions without GTID, which GTIDs "+
			"cannot name: the log is read on from the place: %w", s.position, err))
	}
	return lostUnless("SET GLOBAL gtid_mode = 'ON_PERMISSIVE', and start: FILE:POSITION of the place in this server's files up to which all is "+
		"delivered, after `deltaforge checkpoint reset KEY`", "after position %s there are transactions without GTID, and no place in the files "+
		"of this server (%s) is saved: the server says %w", s.position, s.identity, err)
}
