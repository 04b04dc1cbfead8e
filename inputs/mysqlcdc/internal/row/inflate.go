package row

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"errors"
	"fmt"
	"io"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
)

var errBadCompression = errors.New("a compressed column that is not well formed")

// The first byte of a value of MariaDB's compressed columns (MariaDB source, sql/field_comp.cc): the method, whether the zlib header
// is left out, and in how many bytes, which follow, the length is.
const (
	compressedMethod = 0xf0
	compressedZlib   = 0x80
	compressedRaw    = 0x08
	compressedLength = 0x07
)

// inflateColumn undoes MariaDB's column compression: nothing for an empty value, a zero byte before a value that is not
// compressed.
func inflateColumn(p []byte) ([]byte, error) {
	if len(p) == 0 {
		return p, nil
	}
	head := p[0]
	if head == 0 {
		return p[1:], nil
	}
	n := int(head & compressedLength)
	if head&compressedMethod != compressedZlib || n == 0 || n > 4 || len(p) < 1+n {
		return nil, errBadCompression
	}
	size := binlog.UintBE(p[1 : 1+n])
	stream := bytes.NewReader(p[1+n:])
	var r io.ReadCloser
	if head&compressedRaw != 0 {
		r = flate.NewReader(stream)
	} else {
		var err error
		if r, err = zlib.NewReader(stream); err != nil {
			return nil, fmt.Errorf("%w: %w", errBadCompression, err)
		}
	}
	defer r.Close()
	// One byte more than there should be, so that a longer value is noticed. What is read, not what is promised, takes memory.
	out, err := io.ReadAll(io.LimitReader(r, int64(size)+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBadCompression, err)
	}
	if uint64(len(out)) != size {
		return nil, fmt.Errorf("%w: %d bytes, not %d", errBadCompression, len(out), size)
	}
	return out, nil
}
