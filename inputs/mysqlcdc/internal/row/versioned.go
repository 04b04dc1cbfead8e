package row

import (
	"bytes"
	"encoding/binary"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/internal/change"
)

// A MariaDB table with system versioning keeps what its rows were as rows of its own, which end before the end of time (MariaDB source,
// vers_update_fields). An UPDATE is an update of the row and an insert of the one that was; a DELETE is an update of the end; DELETE HISTORY
// and whatever drops partitions deletes rows that have ended. Only rows that have not ended are the table's.

// now returns what a row of the log means for a table with system versioning, whose images begin at p: what it is that has happened to
// the table's rows, or nothing.
func (s *Segment) now(op change.Op, p []byte) (change.Op, bool, error) {
	before, after := true, true
	var err error
	if s.Event.Before != nil {
		if p, before, err = s.lives(p, s.Event.Before, s.Event.NBefore, false, true); err != nil {
			return op, false, err
		}
	}
	if s.Event.After != nil {
		if _, after, err = s.lives(p, s.Event.After, s.Event.NAfter, s.Event.Partial, before); err != nil {
			return op, false, err
		}
	}
	switch {
	case s.Event.Before == nil:
		return op, after, nil
	case s.Event.After == nil, !before:
		return op, before, nil
	case !after:
		return change.Delete, true, nil
	default:
		return op, true, nil
	}
}

// lives reports whether the row of an image has not ended, and returns what follows the image. An image without the end leaves it as it
// was.
func (s *Segment) lives(p, columns []byte, present int, partialEvent, was bool) (rest []byte, lives bool, err error) {
	value, rest, err := s.TableMap.Value(p, columns, present, partialEvent, s.Layout.RowEnd-1)
	if err != nil || value == nil {
		return rest, was, err
	}
	return rest, isEndOfTime(s.Layout.Columns[s.Layout.RowEnd-1].Type, value), nil
}

// isEndOfTime reports the last moment that a TIMESTAMP(6) can have, which MariaDB 11.5 has moved from 2038 to 2106, and the last id of a
// transaction.
func isEndOfTime(typ byte, value []byte) bool {
	if typ == mysql.MYSQL_TYPE_LONGLONG {
		return bytes.Equal(value, bytes.Repeat([]byte{0xff}, 8))
	}
	const lastMicro = 999999
	if len(value) != 7 || binlog.UintBE(value[4:]) != lastMicro {
		return false
	}
	seconds := binary.BigEndian.Uint32(value)
	return seconds == 1<<31-1 || seconds == 1<<32-1
}
