package change

import (
	"context"
	"errors"
)

// Rows opens connections over which rows of a source's tables are read as they are now. Inputs implement it.
type Rows interface {
	// OpenRows returns before it has connected. It is called from any goroutine.
	OpenRows() RowReader
}

// RowReader reads rows as they are now. It is used by one goroutine at a time.
type RowReader interface {
	// ReadRows reads the rows with some keys, each the values of the columns of t's key, and calls add for each row that is there. What is
	// read is not older than the events, which are in the order of the log. Now is the shape that the row has, which may be another one
	// than t. Where a value of the row cannot be represented, inexact says why. A table that is not there any more, or has another key now,
	// has no rows.
	ReadRows(ctx context.Context, t *Table, events []*Event, keys [][]Value, add func(now *Table, row []Value, inexact error)) error
	// Close closes the connection, if there is one.
	Close()
}

// ErrNoRows means that nobody can be asked for the rows of a table now.
var ErrNoRows = errors.New("the source that made the event cannot be asked: it is none of this process")
