package postgrescdc

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/deltaforge/deltaforge/checkpoint"
)

// LSN is a position in PostgreSQL's write-ahead log: a byte offset since the cluster was made.
type LSN uint64

var _ checkpoint.Position = LSN(0)

// String returns the form that PostgreSQL prints and reads, such as "0/16B3748".
func (l LSN) String() string {
	return string(l.append(make([]byte, 0, 17)))
}

func (l LSN) append(dst []byte) []byte {
	dst = appendHex(dst, uint32(l>>32))
	dst = append(dst, '/')
	return appendHex(dst, uint32(l))
}

func appendHex(dst []byte, v uint32) []byte {
	const digits = "0123456789ABCDEF"
	shift := 28
	for shift > 0 && v>>shift == 0 {
		shift -= 4
	}
	for ; shift >= 0; shift -= 4 {
		dst = append(dst, digits[v>>shift&15])
	}
	return dst
}

// IsZero reports that the LSN is no position.
func (l LSN) IsZero() bool { return l == 0 }

// Compare returns -1, 0 or 1 as l is before, at or behind other.
func (l LSN) Compare(other LSN) int {
	switch {
	case l < other:
		return -1
	case l > other:
		return 1
	default:
		return 0
	}
}

// ParseLSN reads what String returns, and nothing else.
func ParseLSN(s string) (LSN, error) {
	l, err := parseServerLSN(s)
	if err != nil {
		return 0, err
	}
	if l.String() != s {
		return 0, fmt.Errorf("LSN %q: want the form %s", s, l)
	}
	return l, nil
}

// parseServerLSN reads an LSN as any version of the server prints it: newer ones pad the second half with zeros.
func parseServerLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	if !ok || len(hi) > 8 || len(lo) > 8 {
		return 0, fmt.Errorf("LSN %q: want two hexadecimal numbers, such as 0/16B3748", s)
	}
	h, err1 := strconv.ParseUint(hi, 16, 32)
	l, err2 := strconv.ParseUint(lo, 16, 32)
	if err1 != nil || err2 != nil {
		return 0, fmt.Errorf("LSN %q: want two hexadecimal numbers, such as 0/16B3748", s)
	}
	return LSN(h<<32 | l), nil
}

// tokenLSN returns the commit position of a token: ours, or the text that was saved.
func tokenLSN(tok checkpoint.Token) (LSN, error) {
	switch p := tok.Commit.(type) {
	case nil:
		return 0, nil
	case LSN:
		return p, nil
	default:
		return ParseLSN(p.String())
	}
}
