package mysqlcdc

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/needs"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// How a saved position is proved. It belongs to a log, and a server can have another one than when the position was saved: reset, put
// back to an older state, restored, that of a copy. GTIDs and names of files start again there, so they prove nothing alone. A place
// does, whose file exists, was made when the position says (describe compares that when the stream begins), and is as long as the place:
// then all before the place is what was read, and everything after it is read, with GTIDs or without. So a position that has a
// place on this server is read on from there. If its file is purged, the GTIDs tell whether anything was in between. On
// another server of the topology there are only the GTIDs.

// resume proves that the log has what follows a saved position, and decides how to ask for it.
func (s *session) resume(ctx context.Context, p *gtid.Position, source string) (*gtid.Position, error) {
	here := source == "" || source == s.identity
	if p.HasGTIDs && s.log.cfg.useGTID == useGTIDNever {
		if !here || p.File == "" {
			return nil, needs.Unmet(fault.KindOther, "use_gtid is false and position %s has no place in the files of this server (%s): "+
				"use_gtid: auto reads on from its GTIDs", p, s.identity)
		}
		p = p.OnlyPlace()
	}
	switch {
	case !p.HasGTIDs && !here:
		return nil, lost("position %s is one of server %s, this is server %s, whose files are others; without GTIDs there is no "+
			"place in them that is the same", p, source, s.identity)
	case p.HasGTIDs && !here: // files of the same name are other files there
		p = p.OnlyGTIDs()
		return p, s.followGTIDs(ctx, p)
	case p.HasGTIDs && (source == "" || p.File == ""):
		return p, s.followGTIDs(ctx, p)
	}
	files, err := s.logFiles(ctx)
	if err != nil {
		return nil, err
	}
	first, last := files[0].Name, files[len(files)-1].Name
	for _, f := range files {
		switch {
		case f.Name != p.File:
		case f.Size < p.Pos:
			return nil, lost("position %s lies after the end of %s, which has %d bytes: the server has lost the end of its binlog, was put "+
				"back to an older state, or its log was reset", p, f.Name, f.Size)
		default:
			return s.resumeInFile(ctx, p)
		}
	}
	switch {
	case gtid.SameBase(p.File, last) && !gtid.Newer(first, p.File):
		return nil, lost("position %s: the server has no file %s; it has %s to %s: its log was reset, or it was put back to an older state",
			p, p.File, first, last)
	case !p.HasGTIDs:
		return nil, lost("position %s: the server does not have file %s any more; it has %s to %s", p, p.File, first, last)
	default:
		return s.resumePurged(ctx, p, first)
	}
}

// resumeInFile goes on at a place that exists. What an older version has saved does not say when the file was made: then it takes the
// GTIDs, or that both agree.
func (s *session) resumeInFile(ctx context.Context, p *gtid.Position) (*gtid.Position, error) {
	switch {
	case !p.HasGTIDs:
		return p, nil
	case s.flavor == product.MariaDB && p.Pos > maxDumpPos:
		if p.Created == 0 {
			return p, s.followGTIDs(ctx, p)
		}
		return p, nil
	case s.flavor == product.MariaDB:
		at, err := s.catalog.MariaGTIDsAt(ctx, p)
		if err != nil {
			return nil, err
		}
		if !p.AgreesWith(at) {
			return nil, lost("position %s: at %s the server's log is at %s: it was reset, put back to an older state, or is that of a copy",
				p, p.Place(), cmp.Or(at.GTIDs(), "nothing"))
		}
		return p, nil
	}
	if err := s.checkExecuted(ctx, p); err != nil {
		return nil, err
	}
	if p.Created == 0 && s.gtidMode() {
		return p, s.followGTIDs(ctx, p)
	}
	return p, nil
}

// resumePurged goes on at the start of the log when all that is purged is what was read, and nothing else. It must be exactly that: what
// was read was before the first file.
func (s *session) resumePurged(ctx context.Context, p *gtid.Position, first string) (*gtid.Position, error) {
	start := gtid.Position{File: first, Pos: 4}
	if s.flavor == product.MariaDB {
		at, err := s.catalog.MariaGTIDsAt(ctx, &start)
		if err != nil {
			return nil, err
		}
		if !p.AgreesWith(at) {
			return nil, lost("position %s: the server does not have file %s any more, and its log begins with %s, at %s: it has purged what "+
				"lies between, or its log is another one", p, p.File, first, cmp.Or(at.GTIDs(), "nothing"))
		}
		return p.At(start), nil
	}
	if err := s.checkPurged(p); err != nil {
		return nil, err
	}
	purged, err := s.gtidVar("gtid_purged")
	if err != nil {
		return nil, err
	}
	if again := p.Set().Minus(purged); !again.Empty() {
		return nil, lost("position %s: the server's log begins with %s, after the file of the position, and yet it has not purged %s, "+
			"which is delivered already: its log was reset, put back to an older state, or is that of a copy", p, first, again)
	}
	return p.At(start), nil
}

// startAt goes on at a position that the configuration names.
func (s *session) startAt(ctx context.Context, p *gtid.Position) (*gtid.Position, error) {
	if !p.HasGTIDs || s.log.cfg.useGTID == useGTIDNever {
		return s.resume(ctx, p, "")
	}
	p = p.OnlyGTIDs()
	return p, s.followGTIDs(ctx, p)
}

// followGTIDs lets the log be asked for what follows GTIDs, when that is all there is.
func (s *session) followGTIDs(ctx context.Context, p *gtid.Position) error {
	s.byGTIDs = true
	if _, err := s.logFiles(ctx); err != nil { // AnyLarge asks
		return err
	}
	if s.flavor == product.MariaDB {
		return nil // the server checks that when the dump begins
	}
	if !s.gtidMode() {
		return s.noGTIDMode(p)
	}
	if err := s.checkExecuted(ctx, p); err != nil {
		return err
	}
	return s.checkPurged(p)
}

func (s *session) noGTIDMode(p *gtid.Position) error {
	return needs.Unmet(fault.KindOther, "the position %s has GTIDs, and no place in the files of this server (%s), whose gtid_mode "+
		"is %s: SET GLOBAL gtid_mode = 'ON' (by its steps: OFF_PERMISSIVE, ON_PERMISSIVE, ON)", p, s.identity, s.vars["gtid_mode"])
}

func (s *session) gtidMode() bool { return strings.EqualFold(s.vars["gtid_mode"], "ON") }

// gtidVar reads a variable that is a set of GTIDs of MySQL.
func (s *session) gtidVar(name string) (*gtid.Set, error) {
	v, err := gtid.ParseLoosely(s.vars[name] + "@x.1:4")
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return v.Set(), nil
}

// A transaction is in the log a moment before the server counts it as executed: when it waits for the engine, or for a replica.
const (
	executedTries = 10
	executedPause = 500 * time.Millisecond
)

// checkExecuted makes sure that MySQL has executed the GTIDs of a position.
func (s *session) checkExecuted(ctx context.Context, p *gtid.Position) error {
	for try := 1; ; try++ {
		executed, err := s.gtidVar("gtid_executed")
		if err != nil {
			return err
		}
		ahead := p.Set().Minus(executed)
		if ahead.Empty() {
			return nil
		}
		if try == executedTries {
			return lost("the server (%s) has not executed %s, which is delivered already; it has %s: it is late, its log was reset, it was put "+
				"back to an older state, or is another one", s.identity, ahead, cmp.Or(executed.String(), "nothing"))
		}
		select {
		case <-time.After(executedPause):
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := s.inspect(ctx); err != nil {
			return err
		}
	}
}

// checkPurged makes sure that MySQL still has the binlog of what the position does not have.
func (s *session) checkPurged(p *gtid.Position) error {
	executed, err := s.gtidVar("gtid_executed")
	if err != nil {
		return err
	}
	purged, err := s.gtidVar("gtid_purged")
	if err != nil {
		return err
	}
	if missing := purged.Minus(p.Set()); !missing.Empty() {
		return lost("the server (%s) has purged the binlog of %s, which is not delivered yet; it still has %s", s.identity, missing,
			cmp.Or(executed.Minus(purged).String(), "nothing"))
	}
	return nil
}
