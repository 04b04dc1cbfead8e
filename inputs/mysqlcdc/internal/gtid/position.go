// Package gtid has the positions of a binlog: GTIDs, sets of them, and places in files.
package gtid

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/deltaforge/deltaforge/checkpoint"
)

// Position is a place between two transactions of a binlog. Its text is one of
//
//	binlog.000003:157                                        file and position
//	3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5@binlog.000003:157  a GTID set (MySQL), and where in this server's files it was reached
//	0-1-57@binlog.000003:157                                 MariaDB's GTID list, likewise
//	binlog.000003:157#1764305225                             the file is the one that was made at that time (Unix seconds)
//
// GTIDs hold on every server of a topology. The place, which may be missing, holds on one server only, and only while its log is
// the same: a reset or restored one has other files of the same names, which were made at another time. Where it holds it is the
// better of the two: GTIDs do not cover transactions that have none. A server that has no transaction yet has an empty GTID set:
// "@binlog.000001:157".
//
// A Position is immutable. It holds the set that its session started with and what has been executed since, so that making
// one costs a transaction one small allocation, however large the set is.
type Position struct {
	File string
	Pos  uint64
	// Created is when File was made, by its format description event; 0 for unknown.
	Created uint32
	// HasGTIDs says that the position is one of GTIDs, also when the set is empty. At most one of mysql and maria is set.
	HasGTIDs bool
	mysql    *Set
	maria    *mariaSet
	// run is a stretch of GTIDs of one source that follows the set mysql; its last is 0 for none.
	run gtidRun
}

var _ checkpoint.Position = (*Position)(nil)

// ParsePosition reads the canonical text of a position. It is the strict inverse of String: the error is nil only if the
// result's String is the input.
func ParsePosition(s string) (*Position, error) {
	p, err := ParseLoosely(s)
	if err != nil {
		return nil, err
	}
	if canonical := p.String(); canonical != s {
		return nil, fmt.Errorf("position %q is not in its canonical form, %q", s, canonical)
	}
	return p, nil
}

// ParseLoosely also accepts what people write and servers print: white space, sets out of order, upper case.
func ParseLoosely(s string) (*Position, error) {
	gtids, place, hasPlace := strings.Cut(s, "@")
	if !hasPlace {
		if p, ok := parsePlace(strings.TrimSpace(s)); ok {
			return p, nil
		}
	}
	p := &Position{}
	if hasPlace {
		var ok bool
		if p, ok = parsePlace(strings.TrimSpace(place)); !ok {
			return nil, fmt.Errorf("position %q: want file:position after the @, such as binlog.000001:157", s)
		}
	}
	p.HasGTIDs = true
	gtids = strings.Map(func(r rune) rune {
		if r == ' ' || r == '\n' || r == '\r' || r == '\t' {
			return -1
		}
		return r
	}, gtids)
	var err error
	switch {
	case gtids == "" && !hasPlace:
		return nil, errors.New("position is empty: want a GTID set or file:position")
	case gtids == "":
	case strings.Contains(gtids, ":"):
		p.mysql, err = ParseSet(gtids)
	default:
		p.maria, err = parseMariaSet(gtids)
	}
	if err != nil {
		return nil, fmt.Errorf("position %q: %w", s, err)
	}
	return p, nil
}

// parsePlace reads "base.000123:456", with or without "#1764305225". The number after the dot keeps it apart from a GTID.
func parsePlace(s string) (*Position, bool) {
	file, rest, ok := cutLast(s, ':')
	if !ok {
		return nil, false
	}
	if _, _, ok := SplitLogName(file); !ok {
		return nil, false
	}
	pos, created, dated := strings.Cut(rest, "#")
	p := &Position{File: file}
	if p.Pos, ok = parseDecimal(pos); !ok {
		return nil, false
	}
	if dated {
		at, ok := parseDecimal(created)
		if !ok || at == 0 || at > math.MaxUint32 {
			return nil, false
		}
		p.Created = uint32(at)
	}
	return p, true
}

func cutLast(s string, sep byte) (before, after string, found bool) {
	if i := strings.LastIndexByte(s, sep); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

// Newer reports that a file is newer than another one of the same log.
func Newer(file, other string) bool {
	a, x, ok := SplitLogName(file)
	b, y, ok2 := SplitLogName(other)
	return ok && ok2 && a == b && x > y
}

// SameBase reports that files have names of the same log.
func SameBase(file, other string) bool {
	a, _, ok := SplitLogName(file)
	b, _, ok2 := SplitLogName(other)
	return ok && ok2 && a == b
}

// SplitLogName splits the name of a binlog file into its base and its number.
func SplitLogName(file string) (base string, seq uint64, ok bool) {
	i := strings.LastIndexByte(file, '.')
	if i <= 0 || strings.ContainsAny(file, "@:, \n\r\t") {
		return "", 0, false
	}
	digits := file[i+1:]
	for _, c := range []byte(digits) {
		if c < '0' || c > '9' {
			return "", 0, false
		}
	}
	seq, err := strconv.ParseUint(digits, 10, 64)
	return file[:i], seq, err == nil
}

// parseDecimal reads a number without sign or leading zeros.
func parseDecimal(s string) (uint64, bool) {
	if s == "" || len(s) > 1 && s[0] == '0' {
		return 0, false
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}

// String returns the canonical text.
func (p *Position) String() string {
	if p.File == "" {
		return p.GTIDs()
	}
	place := p.Place()
	if p.Created != 0 {
		place += "#" + strconv.FormatUint(uint64(p.Created), 10)
	}
	if !p.HasGTIDs {
		return place
	}
	return p.GTIDs() + "@" + place
}

// Place returns the place in the files, as file:position.
func (p *Position) Place() string { return p.File + ":" + strconv.FormatUint(p.Pos, 10) }

// GTIDs is the GTID set as servers take it.
func (p *Position) GTIDs() string {
	switch {
	case p.maria != nil:
		return p.maria.String()
	case p.mysql != nil || !p.run.none():
		return p.Set().String()
	default:
		return ""
	}
}

// IsMaria reports a position that has GTIDs of MariaDB.
func (p *Position) IsMaria() bool { return p.maria != nil }

// Set returns the whole MySQL GTID set.
func (p *Position) Set() *Set {
	s := p.mysql
	if s == nil {
		s = &Set{}
	}
	if p.run.none() {
		return s
	}
	return s.with(p.run)
}

// Compare orders two positions of one server: -1, 0 or 1, and false when neither is after the other (GTID sets that each
// have what the other lacks, a GTID set and a file).
func (p *Position) Compare(o *Position) (int, bool) {
	if p.HasGTIDs != o.HasGTIDs {
		return 0, false
	}
	if p.HasGTIDs {
		a, b := p.includes(o), o.includes(p)
		switch {
		case a && b:
			return 0, true
		case a:
			return 1, true
		case b:
			return -1, true
		default:
			return 0, false
		}
	}
	base, seq, ok := SplitLogName(p.File)
	obase, oseq, ook := SplitLogName(o.File)
	if !ok || !ook || base != obase || p.File == o.File && !p.SameFile(o) {
		return 0, false
	}
	return cmp.Or(cmp.Compare(seq, oseq), cmp.Compare(p.Pos, o.Pos)), true
}

func (p *Position) includes(o *Position) bool {
	switch {
	case p.maria != nil || o.maria != nil:
		return p.maria.includes(o.maria)
	default:
		return o.Set().Minus(p.Set()).Empty()
	}
}

// SameFile reports whether two positions are in one file, as far as is known.
func (p *Position) SameFile(o *Position) bool {
	return p.File == o.File && (p.Created == o.Created || p.Created == 0 || o.Created == 0)
}

// At returns the position moved to another place, with the same GTIDs.
func (p *Position) At(place Position) *Position {
	n := *p
	n.File, n.Pos, n.Created = place.File, place.Pos, place.Created
	return &n
}

// OnlyPlace returns the position without its GTIDs.
func (p *Position) OnlyPlace() *Position {
	return &Position{File: p.File, Pos: p.Pos, Created: p.Created}
}

// OnlyGTIDs returns the position without its place.
func (p *Position) OnlyGTIDs() *Position { return p.At(Position{}) }

// AfterGTID returns the position after a MySQL transaction that ends at a place.
func (p *Position) AfterGTID(id *ID, place Position) *Position {
	n := &Position{HasGTIDs: true, File: place.File, Pos: place.Pos, Created: place.Created, mysql: p.mysql}
	switch {
	case p.run.last != 0 && p.run.sid == id.SID && p.run.last+1 == id.GNO:
		n.run = gtidRun{sid: p.run.sid, first: p.run.first, last: id.GNO}
	case p.run.none():
		n.run = gtidRun{sid: id.SID, first: id.GNO, last: id.GNO}
	default:
		n.mysql = p.Set()
		n.run = gtidRun{sid: id.SID, first: id.GNO, last: id.GNO}
	}
	return n
}

// AfterMariaGTID returns the position after a MariaDB transaction that ends at a place.
func (p *Position) AfterMariaGTID(id MariaID, place Position) *Position {
	return &Position{HasGTIDs: true, File: place.File, Pos: place.Pos, Created: place.Created, maria: p.maria.with(id)}
}

// AgreesWith reports whether a position of MariaDB's GTIDs is the one that a server names for the same place.
func (p *Position) AgreesWith(server *Position) bool { return p.maria.agrees(server.maria) }

// NotAfter reports whether p is o or before it, by GTIDs if both have them.
func (p *Position) NotAfter(o *Position) bool {
	if p.HasGTIDs != o.HasGTIDs {
		p, o = p.OnlyPlace(), o.OnlyPlace()
	}
	c, ok := p.Compare(o)
	return ok && c <= 0
}

// HasMaria reports whether the last transaction of a domain of MariaDB is this one or has a greater number.
func (p *Position) HasMaria(id MariaID) bool {
	i, found := p.maria.find(id.Domain)
	return found && p.maria.last[i].Seq >= id.Seq
}

// IsMadeIn reports whether the last transaction of each domain of MariaDB is one of a log whose last transactions of each domain and server
// are these (gtid_binlog_state).
func (p *Position) IsMadeIn(state string) bool {
	has := func(id MariaID) bool {
		for part := range strings.SplitSeq(state, ",") {
			last, err := ParseMariaID(strings.TrimSpace(part))
			if err == nil && last.Domain == id.Domain && last.Server == id.Server && last.Seq >= id.Seq {
				return true
			}
		}
		return false
	}
	return p.maria != nil && !slices.ContainsFunc(p.maria.last, func(id MariaID) bool { return !has(id) })
}

// Reaches reports whether the place of p is o's or after it, on one server: false where that is not certain.
func (p *Position) Reaches(o *Position) bool {
	if p.File == "" || o.File == "" {
		return false
	}
	c, ok := p.OnlyPlace().Compare(o.OnlyPlace())
	return ok && c >= 0
}

// Made returns the time that the file was made, as text.
func (p *Position) Made() string { return time.Unix(int64(p.Created), 0).UTC().Format(time.RFC3339) }
