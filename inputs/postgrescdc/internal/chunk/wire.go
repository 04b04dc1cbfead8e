package chunk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/deltaforge/deltaforge/internal/fault"
)

// query runs a statement whose rows have the columns of a table, and ends the transaction. Values come as text, whose bytes stay where they
// were read.
func (r *reader) query(ctx context.Context, sql string, p params, res *result) error {
	f := r.conn.PgConn().Frontend()
	f.SendParse(&pgproto3.Parse{Query: sql})
	f.SendBind(&pgproto3.Bind{Parameters: p})
	f.SendExecute(&pgproto3.Execute{})
	f.SendParse(&pgproto3.Parse{Query: "COMMIT"})
	f.SendBind(&pgproto3.Bind{})
	f.SendExecute(&pgproto3.Execute{})
	f.SendSync(&pgproto3.Sync{})
	return r.receive(ctx, f, res)
}

// fetch runs statements of which the last has rows of a table, and leaves the transaction open.
func (r *reader) fetch(ctx context.Context, sql string, res *result) error {
	f := r.conn.PgConn().Frontend()
	f.SendQuery(&pgproto3.Query{String: sql})
	return r.receive(ctx, f, res)
}

// receive sends what f has, and reads the answer to its end.
func (r *reader) receive(ctx context.Context, f *pgproto3.Frontend, res *result) error {
	stop := context.AfterFunc(ctx, r.interrupt)
	err := f.Flush()
	if err == nil {
		err = r.answer(res)
	}
	if !stop() {
		return context.Cause(ctx)
	}
	return err
}

// interrupt ends the reading of an answer.
func (r *reader) interrupt() {
	_ = r.conn.PgConn().Conn().SetDeadline(time.Unix(1, 0)) // on a closed connection there is nothing to end
}

func (r *reader) answer(res *result) error {
	var failed error
	for {
		kind, body, err := r.stream.Next()
		if err != nil {
			return err
		}
		switch kind {
		case 'D':
			if err := res.row(body); err != nil {
				return err
			}
		case 'E':
			var m pgproto3.ErrorResponse
			if err := m.Decode(body); err != nil {
				return err
			}
			failed = errors.Join(failed, pgconn.ErrorResponseToPgError(&m))
			if m.Severity == "FATAL" || m.Severity == "PANIC" {
				return failed
			}
		case 'Z':
			return failed
		case '1', '2', 'C', 'T', 'N', 'S', 'A':
		default:
			return fault.WithKind(fault.KindProtocol, fmt.Errorf("message of unknown type %q in the answer to a query", kind))
		}
	}
}

// field returns the text of a column in the body of a DataRow message; nil: NULL.
func field(body []byte, column int) ([]byte, error) {
	b := body[min(2, len(body)):]
	for i := 0; ; i++ {
		if len(b) < 4 {
			return nil, errors.New("a row is cut short")
		}
		n := int(int32(binary.BigEndian.Uint32(b)))
		b = b[4:]
		if n > len(b) {
			return nil, errors.New("a row is cut short")
		}
		switch {
		case n < 0 && i == column:
			return nil, nil
		case i == column:
			return b[:n:n], nil
		case n > 0:
			b = b[n:]
		}
	}
}

// keyOf returns the key of a row as text.
func (t *table) keyOf(body []byte) ([][]byte, error) {
	values := make([][]byte, len(t.key))
	for i := range t.key {
		v, err := field(body, t.key[i].column)
		if err == nil && v == nil {
			err = errors.New("it is NULL")
		}
		if err != nil {
			return nil, fmt.Errorf("key column %s: %w", t.key[i].name, err)
		}
		values[i] = v
	}
	return values, nil
}
