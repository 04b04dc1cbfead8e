package row

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/internal/change"
)

// Types that look like another one in the log: what tells them apart is the type's own name.

// packed is a type of MariaDB that the log has as BINARY of a fixed size.
type packed uint8

const (
	PackedNone packed = iota
	PackedUUID
	packedInet6
	packedInet4
)

const (
	uuidSize  = 16
	inet4Size = 4
)

// PackedType returns the packed type of a column of the log whose declared type is the text.
func PackedType(c *Column, declared string) packed {
	if c.Type != mysql.MYSQL_TYPE_STRING {
		return PackedNone
	}
	switch strings.ToLower(declared) {
	case "uuid":
		return PackedUUID
	case "inet6":
		return packedInet6
	case "inet4":
		return packedInet4
	default:
		return PackedNone
	}
}

// size is how many bytes a value has.
func (k packed) size() int {
	if k == packedInet4 {
		return inet4Size
	}
	return uuidSize
}

// append appends the value as MariaDB prints it.
func (k packed) append(dst, p []byte) ([]byte, error) {
	if len(p) != k.size() {
		return dst, fmt.Errorf("%d bytes where there should be %d: %w", len(p), k.size(), binlog.ErrTruncated)
	}
	switch k {
	case PackedUUID:
		return gtid.AppendUUID(dst, [uuidSize]byte(p)), nil
	case packedInet4:
		return netip.AddrFrom4([inet4Size]byte(p)).AppendTo(dst), nil
	default:
		return appendInet6(dst, [16]byte(p)), nil
	}
}

// appendInet6 appends an address as MariaDB prints it (MariaDB source, sql_type_inet.cc): the longest run of zero groups left out, even
// of a single one, and a dotted end after six zero groups or five and ffff.
func appendInet6(dst []byte, a [16]byte) []byte {
	const groups = 8
	group := func(i int) uint64 { return uint64(a[2*i])<<8 | uint64(a[2*i+1]) }
	gap, gapEnd := -1, -1
	for i := 0; i < groups; i++ {
		end := i
		for end < groups && group(end) == 0 {
			end++
		}
		if end-i > gapEnd-gap {
			gap, gapEnd = i, end
		}
		i = max(i, end-1)
	}
	for i := 0; i < groups; i++ {
		switch {
		case i == gap:
			if i == 0 {
				dst = append(dst, ':')
			}
			dst = append(dst, ':')
			i = gapEnd - 1
			continue
		case i == 6 && gap == 0 && (gapEnd == 6 || gapEnd == 5 && group(5) == 0xffff):
			return netip.AddrFrom4([inet4Size]byte(a[12:])).AppendTo(dst)
		}
		dst = strconv.AppendUint(dst, group(i), 16)
		if i < groups-1 {
			dst = append(dst, ':')
		}
	}
	return dst
}

// Refine takes over the declared type of a column where the log could not tell it.
func Refine(c *Column, col *change.Column, declared string) {
	if isTinyint1(c.Type, declared) || c.Text == nil && PackedType(c, declared) != PackedNone {
		col.Type = declared
	}
}
