package mysqlcdc

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
	file string
	pos  uint64
	// gtid says that the position is one of GTIDs, also when the set is empty. At most one of mysql and maria is set.
	gtid  bool
	mysql *gtidSet
	maria *mariaSet
	// run is a stretch of GTIDs of one source that follows the set mysql; its last is 0 for none.
	run gtidRun
}

var _ checkpoint.Position = (*Position)(nil)

// ParsePosition reads the canonical text of a position. It is the strict inverse of String: the error is nil only if the
// result's String is the input.
func ParsePosition(s string) (*Position, error) {
	p, err := parsePositionLoosely(s)
	if err != nil {
		return nil, err
	}
	if canonical := p.String(); canonical != s {
		return nil, fmt.Errorf("position %q is not in its canonical form, %q", s, canonical)
	}
	return p, nil
}

// parsePositionLoosely also accepts what people write and servers print: white space, sets out of order, upper case.
func parsePositionLoosely(s string) (*Position, error) {
	gtids, place, hasPlace := strings.Cut(s, "@")
	if !hasPlace {
		if file, pos, ok := parseFilePos(strings.TrimSpace(s)); ok {
			return &Position{file: file, pos: pos}, nil
		}
	}
	p := &Position{gtid: true}
	if hasPlace {
		var ok bool
		if p.file, p.pos, ok = parseFilePos(strings.TrimSpace(place)); !ok {
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
		p.mysql, err = parseGTIDSet(gtids)
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
	if _, _, ok := splitLogName(file); !ok {
		return "", 0, false
	}
	return file, pos, true
}

// splitLogName splits the name of a binlog file into its base and its number.
func splitLogName(file string) (base string, seq uint64, ok bool) {
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
	if !p.gtid {
		return p.place()
	}
	s := p.gtidText()
	if p.file != "" {
		s += "@" + p.place()
	}
	return s
}

func (p *Position) place() string { return p.file + ":" + strconv.FormatUint(p.pos, 10) }

// gtidText is the GTID set as servers take it.
func (p *Position) gtidText() string {
	switch {
	case p.maria != nil:
		return p.maria.String()
	case p.mysql != nil || !p.run.none():
		return p.set().String()
	default:
		return ""
	}
}

// isMaria reports a position that has GTIDs of MariaDB.
func (p *Position) isMaria() bool { return p.maria != nil }

// set returns the whole MySQL GTID set.
func (p *Position) set() *gtidSet {
	s := p.mysql
	if s == nil {
		s = &gtidSet{}
	}
	if p.run.none() {
		return s
	}
	return s.with(p.run)
}

// Compare orders two positions of one server: -1, 0 or 1, and false when neither is behind the other (GTID sets that each
// have what the other lacks, a GTID set and a file).
func (p *Position) Compare(o *Position) (int, bool) {
	if p.gtid != o.gtid {
		return 0, false
	}
	if p.gtid {
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
	base, seq, ok := splitLogName(p.file)
	obase, oseq, ook := splitLogName(o.file)
	if !ok || !ook || base != obase {
		return 0, false
	}
	return cmp.Or(cmp.Compare(seq, oseq), cmp.Compare(p.pos, o.pos)), true
}

func (p *Position) includes(o *Position) bool {
	switch {
	case p.maria != nil || o.maria != nil:
		return p.maria.includes(o.maria)
	default:
		return o.set().minus(p.set()).empty()
	}
}

// at returns the position moved to another place in the files, with the same GTIDs.
func (p *Position) at(file string, pos uint64) *Position {
	n := *p
	n.file, n.pos = file, pos
	return &n
}

// afterGTID returns the position behind a MySQL transaction.
func (p *Position) afterGTID(id *gtid, file string, pos uint64) *Position {
	n := &Position{gtid: true, file: file, pos: pos, mysql: p.mysql}
	switch {
	case p.run.last != 0 && p.run.sid == id.sid && p.run.last+1 == id.gno:
		n.run = gtidRun{sid: p.run.sid, first: p.run.first, last: id.gno}
	case p.run.none():
		n.run = gtidRun{sid: id.sid, first: id.gno, last: id.gno}
	default:
		n.mysql = p.set()
		n.run = gtidRun{sid: id.sid, first: id.gno, last: id.gno}
	}
	return n
}

// afterMariaGTID returns the position behind a MariaDB transaction.
func (p *Position) afterMariaGTID(id mariaGTID, file string, pos uint64) *Position {
	return &Position{gtid: true, file: file, pos: pos, maria: p.maria.with(id)}
}

// notAfter reports whether p is o or before it, by GTIDs if both have them.
func (p *Position) notAfter(o *Position) bool {
	if p.gtid != o.gtid {
		p, o = &Position{file: p.file, pos: p.pos}, &Position{file: o.file, pos: o.pos}
	}
	c, ok := p.Compare(o)
	return ok && c <= 0
}
