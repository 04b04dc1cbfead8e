package gtid

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// SID is where a MySQL GTID comes from: a server, and a tag (MySQL 8.3 and later), empty for none.
type SID struct {
	UUID [16]byte
	Tag  string
}

func (s SID) compare(o SID) int {
	if c := bytes.Compare(s.UUID[:], o.UUID[:]); c != 0 {
		return c
	}
	return strings.Compare(s.Tag, o.Tag)
}

// ID names one MySQL transaction.
type ID struct {
	SID SID
	GNO uint64
}

// String returns uuid:number, or uuid:tag:number.
func (g ID) String() string { return string(g.append(nil)) }

// ParseID reads what String returns.
func ParseID(s string) (ID, error) {
	source, number, _ := cutLast(s, ':')
	uuid, tag, tagged := strings.Cut(source, ":")
	var g ID
	var err error
	if g.SID.UUID, err = parseUUID(uuid); err != nil {
		return g, err
	}
	if tagged {
		if g.SID.Tag, err = ParseTag(tag); err != nil {
			return g, err
		}
	}
	var ok bool
	if g.GNO, ok = parseDecimal(number); !ok || g.GNO == 0 {
		return g, fmt.Errorf("GTID: %q has no transaction number", s)
	}
	return g, nil
}

func (g ID) append(dst []byte) []byte {
	dst = AppendUUID(dst, g.SID.UUID)
	if g.SID.Tag != "" {
		dst = append(append(dst, ':'), g.SID.Tag...)
	}
	return strconv.AppendUint(append(dst, ':'), g.GNO, 10)
}

// AppendUUID appends a UUID as servers print it: in lower case, with hyphens.
func AppendUUID(dst []byte, u [16]byte) []byte {
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
	sid         SID
	first, last uint64
}

func (r gtidRun) none() bool { return r.last == 0 }

// interval is a stretch of transaction numbers, both ends included.
type interval struct{ first, last uint64 }

// Set is an immutable MySQL GTID set: sources in order, each with ordered intervals that neither touch nor overlap.
type Set struct{ sources []gtidSource }

type gtidSource struct {
	sid       SID
	intervals []interval
}

// MaxGNO is the greatest number of a MySQL transaction.
const MaxGNO = math.MaxInt64 - 1

// ParseSet reads a set without white space: uuid[:tag]:1-5:7[:tag:1-3],uuid:9. Repeated sources are united.
func ParseSet(s string) (*Set, error) {
	set := &Set{}
	for part := range strings.SplitSeq(s, ",") {
		fields := strings.Split(part, ":")
		uuid, err := parseUUID(fields[0])
		if err != nil {
			return nil, err
		}
		from := SID{UUID: uuid}
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
				if from.Tag, err = ParseTag(f); err != nil {
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

// ParseTag checks a tag and returns it in lower case.
func ParseTag(s string) (string, error) {
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
	if iv.first == 0 || iv.last < iv.first || iv.last > MaxGNO {
		return iv, fmt.Errorf("GTID set: range %q: want 1 <= first <= last <= %d", s, uint64(MaxGNO))
	}
	return iv, nil
}

// Empty reports a set without transactions.
func (s *Set) Empty() bool { return len(s.sources) == 0 }

func (s *Set) find(id SID) (int, bool) {
	return slices.BinarySearchFunc(s.sources, id, func(a gtidSource, b SID) int { return a.sid.compare(b) })
}

// with returns the set and a run.
func (s *Set) with(r gtidRun) *Set {
	return s.withIntervals(r.sid, []interval{{r.first, r.last}})
}

// withIntervals returns the union; the other sources are shared with s.
func (s *Set) withIntervals(id SID, ivs []interval) *Set {
	if len(ivs) == 0 {
		return s
	}
	n := &Set{sources: slices.Clone(s.sources)}
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

// Has reports whether a transaction is in the set.
func (s *Set) Has(g ID) bool {
	i, found := s.find(g.SID)
	if !found {
		return false
	}
	ivs := s.sources[i].intervals
	at := sort.Search(len(ivs), func(i int) bool { return ivs[i].last >= g.GNO })
	return at < len(ivs) && ivs[at].first <= g.GNO
}

// HasSource reports whether there is a transaction of a server in the set.
func (s *Set) HasSource(uuid string) bool {
	u, err := parseUUID(strings.ToLower(uuid))
	return err == nil && slices.ContainsFunc(s.sources, func(src gtidSource) bool { return src.sid.UUID == u })
}

// OnlyFrom reports whether all transactions in the set are of one server.
func (s *Set) OnlyFrom(uuid string) bool {
	u, err := parseUUID(strings.ToLower(uuid))
	return err == nil && !slices.ContainsFunc(s.sources, func(src gtidSource) bool { return src.sid.UUID != u })
}

// Minus returns what is in s and not in o.
func (s *Set) Minus(o *Set) *Set {
	n := &Set{}
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
func (s *Set) String() string {
	var b []byte
	for i, src := range s.sources {
		if i == 0 || s.sources[i-1].sid.UUID != src.sid.UUID {
			if i > 0 {
				b = append(b, ',')
			}
			b = AppendUUID(b, src.sid.UUID)
		}
		if src.sid.Tag != "" {
			b = append(append(b, ':'), src.sid.Tag...)
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

// Encode returns the set as COM_BINLOG_DUMP_GTID carries it (MySQL source, Gtid_set::encode). Sets with tags use the tagged
// form: format 1 in the first and the last of the eight bytes of the count, and a tag before the intervals.
func (s *Set) Encode() []byte {
	tagged := slices.ContainsFunc(s.sources, func(src gtidSource) bool { return src.sid.Tag != "" })
	le := binary.LittleEndian
	var b []byte
	if tagged {
		b = le.AppendUint64(b, 1<<56|uint64(len(s.sources))<<8|1)
	} else {
		b = le.AppendUint64(b, uint64(len(s.sources)))
	}
	for _, src := range s.sources {
		b = append(b, src.sid.UUID[:]...)
		if tagged {
			b = append(b, byte(len(src.sid.Tag)<<1)) // a one-byte variable-length integer
			b = append(b, src.sid.Tag...)
		}
		b = le.AppendUint64(b, uint64(len(src.intervals)))
		for _, iv := range src.intervals {
			b = le.AppendUint64(b, iv.first)
			b = le.AppendUint64(b, iv.last+1)
		}
	}
	return b
}
