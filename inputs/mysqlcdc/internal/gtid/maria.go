package gtid

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// MariaID names one MariaDB transaction.
type MariaID struct {
	Domain, Server uint32
	Seq            uint64
}

// String returns domain-server-sequence.
func (g MariaID) String() string { return string(g.append(nil)) }

func (g MariaID) append(dst []byte) []byte {
	dst = strconv.AppendUint(dst, uint64(g.Domain), 10)
	dst = strconv.AppendUint(append(dst, '-'), uint64(g.Server), 10)
	return strconv.AppendUint(append(dst, '-'), g.Seq, 10)
}

// ParseMariaID reads what String returns.
func ParseMariaID(s string) (MariaID, error) {
	set, err := parseMariaSet(s)
	if err != nil {
		return MariaID{}, err
	}
	return set.last[0], nil
}

// mariaSet is an immutable MariaDB GTID position: the last transaction of each domain, in the order of the domains.
type mariaSet struct{ last []MariaID }

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
		id := MariaID{uint32(n[0]), uint32(n[1]), n[2]}
		if _, found := set.find(id.Domain); found {
			return nil, fmt.Errorf("GTID list: domain %d twice", id.Domain)
		}
		set = set.with(id)
	}
	return set, nil
}

func (s *mariaSet) find(domain uint32) (int, bool) {
	if s == nil {
		return 0, false
	}
	return slices.BinarySearchFunc(s.last, domain, func(a MariaID, d uint32) int { return int(int64(a.Domain) - int64(d)) })
}

// with returns the position after id.
func (s *mariaSet) with(id MariaID) *mariaSet {
	i, found := s.find(id.Domain)
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
		i, found := s.find(id.Domain)
		if !found || s.last[i].Seq < id.Seq {
			return false
		}
	}
	return true
}

// agrees reports whether a position has what o has, in each domain of o. FLUSH BINARY LOGS DELETE_DOMAIN_ID lets a server forget domains
// that we remember, but not all of them.
func (s *mariaSet) agrees(o *mariaSet) bool {
	if o == nil || s == nil {
		return o == s
	}
	for _, id := range o.last {
		if i, found := s.find(id.Domain); !found || s.last[i].Seq != id.Seq {
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
