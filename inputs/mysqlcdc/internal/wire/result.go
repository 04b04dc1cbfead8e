package wire

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/internal/fault"
)

const (
	// maxColumns is the greatest number of columns of a result; MySQL's is 4096.
	maxColumns = 4096
	// maxResult bounds what a result may take: those of information_schema have about a hundred bytes a column of a table.
	maxResult = 256 << 20
	// nullCell is NULL in place of a text's length.
	nullCell = 0xfb
	// maxEOF is the size up to which a packet that begins with 0xfe is the end, and not a row with a very long text.
	maxEOF = 8
)

var errResult = fault.WithKind(fault.KindProtocol, errors.New("the server's result is malformed"))

// result reads the answer to a statement: rows as text, in which NULL is empty; nil for a statement without any.
func (c *Conn) result() ([][]string, error) {
	p, err := c.reply()
	if err != nil {
		return nil, err
	}
	if p[0] == mysql.OK_HEADER {
		return nil, nil
	}
	head := binlog.Cursor{Rest: p}
	columns := head.Lenenc()
	if head.Short || len(head.Rest) > 0 || columns == 0 || columns > maxColumns {
		return nil, errResult // LOCAL INFILE, which wants a file of ours, is one of these
	}
	for range columns { // their definitions
		if _, err := c.reply(); err != nil {
			return nil, err
		}
	}
	if p, err = c.reply(); err != nil {
		return nil, err
	}
	if !isEOF(p) {
		return nil, errResult
	}
	var rows [][]string
	for size := 0; ; {
		if p, err = c.reply(); err != nil {
			return nil, err
		}
		if isEOF(p) {
			return rows, nil
		}
		if size += len(p); size > maxResult {
			return nil, fault.WithKind(fault.KindProtocol, fmt.Errorf("the server's result is larger than %d bytes", maxResult))
		}
		row, err := textRow(p, int(columns))
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
}

func isEOF(p []byte) bool { return p[0] == mysql.EOF_HEADER && len(p) <= maxEOF }

func textRow(p []byte, columns int) ([]string, error) {
	c := binlog.Cursor{Rest: p}
	row := make([]string, columns)
	for i := range row {
		if len(c.Rest) > 0 && c.Rest[0] == nullCell {
			c.Take(1)
			continue
		}
		row[i] = string(c.Take(c.Length()))
	}
	if c.Short || len(c.Rest) > 0 {
		return nil, errResult
	}
	return row, nil
}

// parseError turns an error packet into an error. One that comes before the handshake has no SQL state.
func parseError(p []byte) error {
	c := binlog.Cursor{Rest: p}
	c.Take(1)
	e := &mysql.MyError{Code: uint16(c.Uint(2)), State: "HY000"}
	if c.Short {
		return errShort
	}
	if bytes.HasPrefix(c.Rest, []byte("#")) && len(c.Rest) >= 6 {
		e.State = string(c.Rest[1:6])
		c.Take(6)
	}
	e.Message = string(c.Rest)
	return e
}
