// Package gtid has the positions of a binlog: GTIDs, sets of them, and places in files.
package gtid

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/deltaforge/deltaforge/checkpoint"
)

// Position is a place between two transactions of a binlog. Its text is one of
//
//	binlog.000003:157                                        file and position
//	3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5@binlog.000003:157  a GTID set (MySQL), and where in this server's files it was reached
//	0-1-57@binlog.000003:157                                 MariaDB's GTID list, likewise
//
// The part behind the @ informs operators and the lag in bytes; a position with GTIDs is resumed by them alone, so that it
// holds on another server of the same topology. It may be missing. A server that has no transaction yet has an empty GTID
// set: "@binlog.000001:157".
//
// A Position is immutable. It holds the set that its session started with and what has been executed since, so that making
// one costs a transaction one small allocation, however large the set is.
type Position struct {
	File string
	Pos  uint64
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
		if file, pos, ok := parseFilePos(strings.TrimSpace(s)); ok {
			return &Position{File: file, Pos: pos}, nil
		}
	}
	p := &Position{HasGTIDs: true}
	if hasPlace {
		var ok bool
		if p.File, p.Pos, ok = parseFilePos(strings.TrimSpace(place)); !ok {
			return nil, fmt.Errorf("position %q: want file:position behind the @, such as binlog.000001:157", s)
		}
	}
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

// parseFilePos reads "base.000123:456". The number behind the dot keeps it apart from a GTID.
func parseFilePos(s string) (file string, pos uint64, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", 0, false
	}
	pos, ok = parseDecimal(s[i+1:])
	if !ok {
		return "", 0, false
	}
	file = s[:i]
	if _, _, ok := SplitLogName(file); !ok {
		return "", 0, false
	}
	return file, pos, true
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
	if !p.HasGTIDs {
		return p.Place()
	}
	s := p.GTIDs()
	if p.File != "" {
		s += "@" + p.Place()
	}
	return s
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

// Compare orders two positions of one server: -1, 0 or 1, and false when neither is behind the other (GTID sets that each
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
	if !ok || !ook || base != obase {
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

// At returns the position moved to another place in the files, with the same GTIDs.
func (p *Position) At(file string, pos uint64) *Position {
	n := *p
	n.File, n.Pos = file, pos
	return &n
}

// AfterGTID returns the position behind a MySQL transaction.
func (p *Position) AfterGTID(id *ID, file string, pos uint64) *Position {
	n := &Position{HasGTIDs: true, File: file, Pos: pos, mysql: p.mysql}
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

// AfterMariaGTID returns the position behind a MariaDB transaction.
func (p *Position) AfterMariaGTID(id MariaID, file string, pos uint64) *Position {
	return &Position{HasGTIDs: true, File: file, Pos: pos, maria: p.maria.with(id)}
}

// NotAfter reports whether p is o or before it, by GTIDs if both have them.
func (p *Position) NotAfter(o *Position) bool {
	if p.HasGTIDs != o.HasGTIDs {
		p, o = &Position{File: p.File, Pos: p.Pos}, &Position{File: o.File, Pos: o.Pos}
	}
	c, ok := p.Compare(o)
	return ok && c <= 0
}
