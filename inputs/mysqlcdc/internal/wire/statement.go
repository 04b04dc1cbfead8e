package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// Result is the result of a query as it arrives, in the binary protocol: numbers are not rounded to text. While it is read, nothing else
// can be asked over its connection.
type Result struct {
	// Columns are those of the query.
	Columns []ResultColumn
	conn    *Conn
	id      uint32
	ended   bool
}

// ResultColumn is what a server says of a column of a result.
type ResultColumn struct {
	// Type is the type of its values in the binary protocol.
	Type     byte
	Unsigned bool
	Nullable bool
}

// Interrupt closes the connection when ctx ends, unless the function that it returns was called before: what waits for the server then
// fails.
func (c *Conn) Interrupt(ctx context.Context) (stop func() bool) { return c.srv.closeAfter(ctx, c.raw) }

// Stream runs a query whose rows are read one after the other. Its errors do not have the text of the query.
func (c *Conn) Stream(ctx context.Context, sql string) (*Result, error) {
	r, err := c.stream(sql)
	if err == nil {
		return r, nil
	}
	return nil, c.failed(ctx, err)
}

// failed is the error of an exchange.
func (c *Conn) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return c.Classify(fmt.Errorf("asking %s: %w", c.srv.Address, err), fault.KindConnect)
}

func (c *Conn) stream(sql string) (*Result, error) {
	r, err := c.prepare(sql)
	if err != nil {
		return nil, err
	}
	const noCursor, once = 0, 1
	p := binary.LittleEndian.AppendUint32([]byte{mysql.COM_STMT_EXECUTE}, r.id)
	if err := c.command(binary.LittleEndian.AppendUint32(append(p, noCursor), once)); err != nil {
		return nil, err
	}
	head, err := c.reply()
	if err != nil {
		if closeErr := r.close(); closeErr != nil {
			err = errors.Join(err, closeErr)
		}
		return nil, err
	}
	cursor := binlog.Cursor{Rest: head}
	columns := cursor.Lenenc()
	if cursor.Short || len(cursor.Rest) > 0 || columns == 0 || columns > maxColumns {
		return nil, errResult
	}
	if r.Columns, err = c.columns(int(columns)); err != nil {
		return nil, err
	}
	c.in.limit = 0 // a row is as long as the server lets it be
	return r, nil
}

// prepare makes a statement of a query without parameters.
func (c *Conn) prepare(sql string) (*Result, error) {
	if err := c.command(append([]byte{mysql.COM_STMT_PREPARE}, sql...)); err != nil {
		return nil, err
	}
	p, err := c.reply()
	if err != nil {
		return nil, err
	}
	cursor := binlog.Cursor{Rest: p}
	cursor.Take(1)
	r := &Result{conn: c, id: uint32(cursor.Uint(4))}
	columns, parameters := cursor.Uint(2), cursor.Uint(2)
	if cursor.Short || p[0] != mysql.OK_HEADER || parameters > 0 || columns == 0 || columns > maxColumns {
		return nil, errResult
	}
	_, err = c.columns(int(columns))
	return r, err
}

// columns reads the definitions of columns, and the end of them.
func (c *Conn) columns(n int) ([]ResultColumn, error) {
	columns := make([]ResultColumn, n)
	for i := range columns {
		p, err := c.reply()
		if err != nil {
			return nil, err
		}
		cursor := binlog.Cursor{Rest: p}
		for range 6 { // catalogue, database, table and column, both under their alias and as they are
			cursor.Take(cursor.Length())
		}
		cursor.Take(1 + 2 + 4) // how long the rest is, collation, display width
		columns[i].Type = byte(cursor.Uint(1))
		flags := cursor.Uint(2)
		columns[i].Unsigned, columns[i].Nullable = flags&mysql.UNSIGNED_FLAG != 0, flags&mysql.NOT_NULL_FLAG == 0
		if cursor.Short {
			return nil, errResult
		}
	}
	p, err := c.reply()
	if err == nil && !isEOF(p) {
		err = errResult
	}
	return columns, err
}

// Next returns the next row as the binary protocol has it; nil after the last. Its memory is never written again.
func (r *Result) Next(ctx context.Context) ([]byte, error) {
	if r.ended {
		return nil, nil
	}
	p, err := r.conn.reply()
	switch {
	case err != nil:
		r.ended = true
		return nil, r.conn.failed(ctx, err)
	case isEOF(p):
		r.ended = true
		r.conn.in.limit = maxResult
		if err := r.close(); err != nil {
			return nil, r.conn.failed(ctx, err)
		}
		return nil, nil
	case p[0] != mysql.OK_HEADER:
		return nil, errResult
	}
	return p, nil
}

// close lets the server forget the statement, which it does not answer.
func (r *Result) close() error {
	return r.conn.command(binary.LittleEndian.AppendUint32([]byte{mysql.COM_STMT_CLOSE}, r.id))
}
