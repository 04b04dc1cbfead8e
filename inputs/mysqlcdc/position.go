package mysqlcdc

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/wire"
	"github.com/deltaforge/deltaforge/internal/coordinator"
)

const (
	startLatest   = "latest"
	startEarliest = "earliest"
)

func lost(format string, args ...any) error {
	return coordinator.WithKind(coordinator.KindPositionLost, fmt.Errorf("%w: %w", coordinator.ErrPositionLost, fmt.Errorf(format, args...)))
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
	return s.log.cfg.startAt, nil
}

// startPosition returns where to start and has checked that the server still has what follows it.
func (s *session) startPosition(ctx context.Context, from checkpoint.Token) (*gtid.Position, error) {
	p, err := s.savedOrConfigured(from)
	if err != nil {
		return nil, err
	}
	switch {
	case p != nil && p.HasGTIDs:
		return p, s.checkGTIDs(p)
	case p != nil:
		if from.Source != "" && from.Source != s.identity {
			return nil, lost("position %s is one of server %s, this is server %s, whose files are others; without GTIDs there is no "+
				"place in them that is the same", p, from.Source, s.identity)
		}
		return p, s.checkFile(ctx, p)
	case s.log.cfg.start == startEarliest:
		return s.earliest(ctx)
	default:
		return s.end, nil
	}
}

// endOfLog asks where the binlog ends.
func (s *session) endOfLog(ctx context.Context) (*gtid.Position, error) {
	rows, err := s.catalog.Query(ctx, "SHOW BINARY LOG STATUS") // MySQL 8.2 and later
	if wire.IsServerError(err, mysql.ER_PARSE_ERROR) {
		rows, err = s.catalog.Query(ctx, "SHOW MASTER STATUS")
	}
	if err != nil {
		return nil, fmt.Errorf("asking for the end of the binlog: %w", err)
	}
	if len(rows) == 0 || len(rows[0]) < 2 {
		return nil, errors.New("asking for the end of the binlog: the server names none")
	}
	r := rows[0]
	if len(r) >= 4 {
		s.withheld = parseWithheld(r[2], r[3])
	}
	p := &gtid.Position{File: r[0]}
	if p.Pos, err = strconv.ParseUint(r[1], 10, 64); err != nil {
		return nil, fmt.Errorf("asking for the end of the binlog: position %q", r[1])
	}
	if s.flavor == product.MariaDB {
		return s.withMariaGTIDs(ctx, p)
	}
	if s.log.cfg.useGTID != useGTIDNever && strings.EqualFold(s.vars["gtid_mode"], "ON") && len(r) > 4 {
		set, err := gtid.ParseLoosely(r[4] + "@" + p.Place())
		if err != nil {
			return nil, fmt.Errorf("asking for the end of the binlog: %w", err)
		}
		return set, nil
	}
	return p, nil
}

// withMariaGTIDs asks MariaDB which GTIDs lie before a place in its files.
func (s *session) withMariaGTIDs(ctx context.Context, p *gtid.Position) (*gtid.Position, error) {
	if s.log.cfg.useGTID == useGTIDNever {
		return p, nil
	}
	rows, err := s.catalog.Query(ctx, fmt.Sprintf("SELECT IFNULL(BINLOG_GTID_POS(%s, %d), '')", statement.Quote(p.File), p.Pos))
	if err != nil {
		return nil, fmt.Errorf("asking for the GTIDs at %s: %w", p, err)
	}
	set, err := gtid.ParseLoosely(rows[0][0] + "@" + p.Place())
	if err != nil {
		return nil, fmt.Errorf("asking for the GTIDs at %s: %w", p, err)
	}
	return set, nil
}

// logFile is a row of SHOW BINARY LOGS.
type logFile struct {
	name string
	size uint64
}

func (s *session) logFiles(ctx context.Context) ([]logFile, error) {
	rows, err := s.catalog.Query(ctx, "SHOW BINARY LOGS")
	if err != nil {
		return nil, fmt.Errorf("listing the binlog files: %w", err)
	}
	files := make([]logFile, 0, len(rows))
	for _, r := range rows {
		size, err := strconv.ParseUint(r[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("listing the binlog files: size %q", r[1])
		}
		files = append(files, logFile{r[0], size})
	}
	if len(files) == 0 {
		return nil, errors.New("listing the binlog files: the server has none")
	}
	return files, nil
}

// earliest returns the start of the oldest file.
func (s *session) earliest(ctx context.Context) (*gtid.Position, error) {
	files, err := s.logFiles(ctx)
	if err != nil {
		return nil, err
	}
	p := &gtid.Position{File: files[0].name, Pos: 4}
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

// checkFile makes sure that the file of a position is there and as long as the position.
func (s *session) checkFile(ctx context.Context, p *gtid.Position) error {
	files, err := s.logFiles(ctx)
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.name != p.File {
			continue
		}
		if f.size < p.Pos {
			return lost("position %s lies behind the end of %s, which has %d bytes: the server has lost the end of its binlog, or is "+
				"another one", p, f.name, f.size)
		}
		return nil
	}
	return lost("position %s: the server does not have file %s any more; it has %s to %s", p, p.File, files[0].name,
		files[len(files)-1].name)
}

// checkGTIDs makes sure, on MySQL, that the server has executed the set and still has the binlog of what is not in it.
// MariaDB checks this itself when the dump begins.
func (s *session) checkGTIDs(p *gtid.Position) error {
	if s.flavor == product.MariaDB {
		return nil
	}
	parse := func(variable string) (*gtid.Set, error) {
		v, err := gtid.ParseLoosely(s.vars[variable] + "@x.1:4")
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", variable, err)
		}
		return v.Set(), nil
	}
	executed, err := parse("gtid_executed")
	if err != nil {
		return err
	}
	purged, err := parse("gtid_purged")
	if err != nil {
		return err
	}
	if ahead := p.Set().Minus(executed); !ahead.Empty() {
		return lost("the server (%s) has not executed %s, which is delivered already; it has %s: it is behind, was restored, or is "+
			"another one", s.identity, ahead, executed)
	}
	if missing := purged.Minus(p.Set()); !missing.Empty() {
		left := executed.Minus(purged).String()
		if left == "" {
			left = "nothing"
		}
		return lost("the server (%s) has purged the binlog of %s, which is not delivered yet; it still has %s", s.identity, missing, left)
	}
	return nil
}

// dumpError gives a meaning to an error that ends the dump.
func (s *session) dumpError(err error) error {
	var my *mysql.MyError
	if !errors.As(err, &my) {
		return s.stream.Classify(fmt.Errorf("reading the binlog from %s: %w", s.log.cfg.server.Address, err), coordinator.KindConnect)
	}
	switch {
	case my.Code == mysql.ER_SPECIFIC_ACCESS_DENIED_ERROR:
		return precondition(coordinator.KindPermission, "the account may not read the binlog: GRANT REPLICATION SLAVE ON *.* TO %s: %w",
			s.account(), err)
	case my.Code == mysql.ER_MASTER_FATAL_ERROR_READING_BINLOG && strings.Contains(my.Message, "same server"):
		return precondition(coordinator.KindOther, "another replica with server_id %d has connected: set server_id of this input to a number "+
			"that no other replica has: %w", s.log.cfg.serverID, err)
	case my.Code == mysql.ER_MASTER_FATAL_ERROR_READING_BINLOG && strings.Contains(my.Message, "max_allowed_packet"):
		return precondition(coordinator.KindProtocol, "an event is larger than the server's max_allowed_packet: SET GLOBAL "+
			"max_allowed_packet = 1073741824: %w", err)
	case my.Code == mysql.ER_MASTER_FATAL_ERROR_READING_BINLOG, my.Code == 1220, // a file that cannot be opened
		my.Code >= 1944 && my.Code <= 1947: // MariaDB's GTID errors
		return lost("position %s: the server says %w; its binlog ends at %s", s.position, my, s.end)
	default:
		return s.stream.Classify(fmt.Errorf("reading the binlog: %w", err), coordinator.KindProtocol)
	}
}
