package mysqlcdc

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// sid is where a MySQL GTID comes from: a server, and a tag (MySQL 8.3 and later), empty for none.
type sid struct {
	uuid [16]byte
	tag  string
}

func (s sid) compare(o sid) int {
	if c := bytes.Compare(s.uuid[:], o.uuid[:]); c != 0 {
		return c
	}
	return strings.Compare(s.tag, o.tag)
}

// gtid names one MySQL transaction.
type gtid struct {
	sid sid
	gno uint64
}

func (g gtid) String() string { return string(g.append(nil)) }

func (g gtid) append(dst []byte) []byte {
	dst = appendUUID(dst, g.sid.uuid)
	if g.sid.tag != "" {
		dst = append(append(dst, ':'), g.sid.tag...)
	}
	return strconv.AppendUint(append(dst, ':'), g.gno, 10)
}

func appendUUID(dst []byte, u [16]byte) []byte {
	for i, part := range [...][]byte{u[:4], u[4:6], u[6:8], u[8:10], u[10:]} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, part)
	}
	return dst
}

// gtidRun is an unbroken stretch of transactions of one source, both ends included.
type gtidRun struct {
	sid         sid
	first, last uint64
}

func (r gtidRun) none() bool { return r.last == 0 }

// interval is a stretch of transaction numbers, both ends included.
type interval struct{ first, last uint64 }

// gtidSet is an immutable MySQL GTID set: sources in order, each with ordered intervals that neither touch nor overlap.
type gtidSet struct{ sources []gtidSource }

type gtidSource struct {
	sid       sid
	intervals []interval
}

const maxGNO = math.MaxInt64 - 1

// parseGTIDSet reads a set without white space: uuid[:tag]:1-5:7[:tag:1-3],uuid:9. Repeated sources are united.
func parseGTIDSet(s string) (*gtidSet, error) {
	set := &gtidSet{}
	for part := range strings.SplitSeq(s, ",") {
		fields := strings.Split(part, ":")
		uuid, err := parseUUID(fields[0])
		if err != nil {
			return nil, err
		}
		from := sid{uuid: uuid}
		var ivs []interval
		flush := func() {
			set = set.withIntervals(from, ivs)
			ivs = nil
		}
		for i, f := range fields[1:] {
			if f == "" {
				return nil, fmt.Errorf("GTID set: nothing between two colons in %q", part)
			}
			if c := f[0]; c < '0' || c > '9' {
				if i > 0 && len(ivs) == 0 {
					return nil, fmt.Errorf("GTID set: no transaction numbers before tag %q", f)
				}
				flush()
				if from.tag, err = parseTag(f); err != nil {
					return nil, err
				}
				continue
			}
			iv, err := parseInterval(f)
			if err != nil {
				return nil, err
			}
			ivs = append(ivs, iv)
		}
		if len(ivs) == 0 {
			return nil, fmt.Errorf("GTID set: no transaction numbers in %q", part)
		}
		flush()
	}
	return set, nil
}

func parseUUID(s string) (u [16]byte, err error) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return u, fmt.Errorf("GTID set: %q is not a server UUID", s)
	}
	digits := s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	if _, err := hex.Decode(u[:], []byte(digits)); err != nil {
		return u, fmt.Errorf("GTID set: %q is not a server UUID: %w", s, err)
	}
	return u, nil
}

func parseTag(s string) (string, error) {
	s = strings.ToLower(s)
	for i, c := range []byte(s) {
		if c != '_' && (c < 'a' || c > 'z') && (i == 0 || c < '0' || c > '9') {
			return "", fmt.Errorf("GTID set: %q is not a tag", s)
		}
	}
	if len(s) > 32 {
		return "", fmt.Errorf("GTID set: tag %q is longer than 32 characters", s)
	}
	return s, nil
}

func parseInterval(s string) (iv interval, err error) {
	first, last, isRange := strings.Cut(s, "-")
	var ok bool
	if iv.first, ok = parseDecimal(first); !ok {
		return iv, fmt.Errorf("GTID set: %q is not a range of transaction numbers", s)
	}
	iv.last = iv.first
	if isRange {
		if iv.last, ok = parseDecimal(last); !ok {
			return iv, fmt.Errorf("GTID set: %q is not a range of transaction numbers", s)
		}
	}
	if iv.first == 0 || iv.last < iv.first || iv.last > maxGNO {
		return iv, fmt.Errorf("GTID set: range %q: want 1 <= first <= last <= %d", s, uint64(maxGNO))
	}
	return iv, nil
}

func (s *gtidSet) empty() bool { return len(s.sources) == 0 }

func (s *gtidSet) find(id sid) (int, bool) {
	return slices.BinarySearchFunc(s.sources, id, func(a gtidSource, b sid) int { return a.sid.compare(b) })
}

// with returns the set and a run.
func (s *gtidSet) with(r gtidRun) *gtidSet {
	return s.withIntervals(r.sid, []interval{{r.first, r.last}})
}

// withIntervals returns the union; the other sources are shared with s.
func (s *gtidSet) withIntervals(id sid, ivs []interval) *gtidSet {
	if len(ivs) == 0 {
		return s
	}
	n := &gtidSet{sources: slices.Clone(s.sources)}
	i, found := n.find(id)
	if !found {
		n.sources = slices.Insert(n.sources, i, gtidSource{sid: id})
	}
	n.sources[i].intervals = unite(n.sources[i].intervals, ivs)
	return n
}

func unite(a, b []interval) []interval {
	all := append(slices.Clone(a), b...)
	slices.SortFunc(all, func(x, y interval) int {
		if x.first < y.first {
			return -1
		}
		return 1
	})
	out := all[:0]
	for _, iv := range all {
		if n := len(out); n > 0 && iv.first <= out[n-1].last+1 {
			out[n-1].last = max(out[n-1].last, iv.last)
			continue
		}
		out = append(out, iv)
	}
	return out
}

// minus returns what is in s and not in o.
func (s *gtidSet) minus(o *gtidSet) *gtidSet {
	n := &gtidSet{}
	for _, src := range s.sources {
		left := src.intervals
		if i, found := o.find(src.sid); found {
			left = subtract(left, o.sources[i].intervals)
		}
		if len(left) > 0 {
			n.sources = append(n.sources, gtidSource{sid: src.sid, intervals: left})
		}
	}
	return n
}

func subtract(a, b []interval) []interval {
	var out []interval
	j := 0
	for _, iv := range a {
		for j < len(b) && b[j].last < iv.first {
			j++
		}
		for k := j; k < len(b) && b[k].first <= iv.last; k++ {
			if b[k].first > iv.first {
				out = append(out, interval{iv.first, b[k].first - 1})
			}
			iv.first = b[k].last + 1
		}
		if iv.first <= iv.last {
			out = append(out, iv)
		}
	}
	return out
}

// String returns the set as MySQL prints it, without line breaks.
func (s *gtidSet) String() string {
	var b []byte
	for i, src := range s.sources {
		if i == 0 || s.sources[i-1].sid.uuid != src.sid.uuid {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendUUID(b, src.sid.uuid)
		}
		if src.sid.tag != "" {
			b = append(append(b, ':'), src.sid.tag...)
		}
		for _, iv := range src.intervals {
			b = strconv.AppendUint(append(b, ':'), iv.first, 10)
			if iv.last != iv.first {
				b = strconv.AppendUint(append(b, '-'), iv.last, 10)
			}
		}
	}
	return string(b)
}

// encode returns the set as COM_BINLOG_DUMP_GTID carries it (MySQL source, Gtid_set::encode). Sets with tags use the tagged
// form: format 1 in the first and the last of the eight bytes of the count, and a tag before the intervals.
func (s *gtidSet) encode() []byte {
	tagged := slices.ContainsFunc(s.sources, func(src gtidSource) bool { return src.sid.tag != "" })
	le := binary.LittleEndian
	var b []byte
	if tagged {
		b = le.AppendUint64(b, 1<<56|uint64(len(s.sources))<<8|1)
	} else {
		b = le.AppendUint64(b, uint64(len(s.sources)))
	}
	for _, src := range s.sources {
		b = append(b, src.sid.uuid[:]...)
		if tagged {
			b = append(b, byte(len(src.sid.tag)<<1)) // a one-byte variable-length integer
			b = append(b, src.sid.tag...)
		}
		b = le.AppendUint64(b, uint64(len(src.intervals)))
		for _, iv := range src.intervals {
			b = le.AppendUint64(b, iv.first)
			b = le.AppendUint64(b, iv.last+1)
		}
	}
	return b
}

// mariaGTID names one MariaDB transaction.
type mariaGTID struct {
	domain, server uint32
	seq            uint64
}

func (g mariaGTID) String() string { return string(g.append(nil)) }

func (g mariaGTID) append(dst []byte) []byte {
	dst = strconv.AppendUint(dst, uint64(g.domain), 10)
	dst = strconv.AppendUint(append(dst, '-'), uint64(g.server), 10)
	return strconv.AppendUint(append(dst, '-'), g.seq, 10)
}

// mariaSet is an immutable MariaDB GTID position: the last transaction of each domain, in the order of the domains.
type mariaSet struct{ last []mariaGTID }

func parseMariaSet(s string) (*mariaSet, error) {
	var set *mariaSet
	for part := range strings.SplitSeq(s, ",") {
		f := strings.Split(part, "-")
		if len(f) != 3 {
			return nil, fmt.Errorf("GTID list: %q is neither domain-server-sequence nor uuid:numbers", part)
		}
		var n [3]uint64
		for i := range f {
			var ok bool
			if n[i], ok = parseDecimal(f[i]); !ok || i < 2 && n[i] > math.MaxUint32 {
				return nil, fmt.Errorf("GTID list: %q is not domain-server-sequence", part)
			}
		}
		id := mariaGTID{uint32(n[0]), uint32(n[1]), n[2]}
		if _, found := set.find(id.domain); found {
			return nil, fmt.Errorf("GTID list: domain %d twice", id.domain)
		}
		set = set.with(id)
	}
	return set, nil
}

func (s *mariaSet) find(domain uint32) (int, bool) {
	if s == nil {
		return 0, false
	}
	return slices.BinarySearchFunc(s.last, domain, func(a mariaGTID, d uint32) int { return int(int64(a.domain) - int64(d)) })
}

// with returns the position behind id.
func (s *mariaSet) with(id mariaGTID) *mariaSet {
	i, found := s.find(id.domain)
	if found {
		n := &mariaSet{last: slices.Clone(s.last)}
		n.last[i] = id
		return n
	}
	n := &mariaSet{}
	if s != nil {
		n.last = slices.Clone(s.last)
	}
	n.last = slices.Insert(n.last, i, id)
	return n
}

// includes reports whether everything that o has executed is executed in s, by sequence numbers.
func (s *mariaSet) includes(o *mariaSet) bool {
	if o == nil {
		return true
	}
	for _, id := range o.last {
		i, found := s.find(id.domain)
		if !found || s.last[i].seq < id.seq {
			return false
		}
	}
	return true
}

func (s *mariaSet) String() string {
	var b []byte
	for i, id := range s.last {
		if i > 0 {
			b = append(b, ',')
		}
		b = id.append(b)
	}
	return string(b)
}
