// Package lsn is positions in the write-ahead log.
package lsn

import (
	"fmt"
	"strconv"
	"strings"
)

// LSN is a position in PostgreSQL's write-ahead log: a byte offset since the cluster was made.
type LSN uint64

// String returns the form that PostgreSQL prints and reads, such as "0/16B3748".
func (l LSN) String() string {
	return string(l.Append(make([]byte, 0, 17)))
}

// Append appends what String returns.
func (l LSN) Append(dst []byte) []byte {
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

// Parse reads what String returns, and nothing else.
func Parse(s string) (LSN, error) {
	l, err := ParseServer(s)
	if err != nil {
		return 0, err
	}
	if l.String() != s {
		return 0, fmt.Errorf("LSN %q: want the form %s", s, l)
	}
	return l, nil
}

// ParseServer reads an LSN as any version of the server prints it: newer ones pad the second half with zeros.
func ParseServer(s string) (LSN, error) {
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
