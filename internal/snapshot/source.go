// Package snapshot loads the rows that tables hold already, while the log is streamed: what no database decides.
//
// A table is read in chunks, each in a short transaction of its own. A chunk's rows are put into the stream once the stream has passed
// everything that the transaction saw (View.Reached). Of the rows that the stream has changed meanwhile, those are left out that the chunk
// may have read in an older state: a transaction of the stream counts for nothing only if the chunk surely saw it (View.Sees). So nothing is
// locked, nothing is written in the database, and no transaction is longer than a chunk.
//
// The trap: a transaction can be in the log, and delivered, before a query sees it, such as while its commit waits for a standby. So what a
// chunk saw is what the engine says, never what the stream has reached.
package snapshot

import (
	"context"
	"errors"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
)

// ErrAnew means that a table cannot be read on from where it was read: its key is another one now, so it is to be read from its beginning.
var ErrAnew = errors.New("the table has to be read from its beginning")

// ErrGone means that a table is not there any more.
var ErrGone = errors.New("the table is not there any more")

// Source reads the tables of one database. Inputs implement it. All methods are called from any goroutine, also while no log is read.
type Source interface {
	// Tables lists the captured tables that are there now, those without rows too, sorted by name.
	Tables(ctx context.Context) ([]Table, error)
	// Open opens a connection for chunks: to the replica where one is configured, whose identity has been checked then.
	Open(ctx context.Context) (Reader, error)
	// Notify names the function that hears of a table that has come under a captured name otherwise than by being made empty in
	// the log: renamed or moved there, swapped, attached, added to a publication. Its rows are loaded, also if they were loaded
	// before. The function does not block. Notify is called once, before anything else.
	Notify(func(Appearance))
}

// Appearance is a table that has come under a captured name.
type Appearance struct {
	Table string // as change.Table.FullName gives it
	Why   string // for the log: `renamed from shop.orders_new`
}

// Table is a table that can be loaded.
type Table struct {
	Name string // as change.Table.FullName gives it
	// Rows is the server's estimate of how many rows there are; -1: it has none.
	Rows int64
	// Key are the columns by which the table is cut into chunks: the primary key, else a unique index whose columns are all NOT
	// NULL. It is empty where there is none: the table is read in another way, or whole.
	Key []string
	// Refused says why the table cannot be read, with the statement that mends it: `GRANT SELECT ON shop.orders TO 'cdc'@'%'`. nil: it can.
	Refused error
}

// Reader reads chunks over a connection of its own. It is used by one goroutine. After an error it is closed, and another one opened.
type Reader interface {
	// Split returns at most n-1 keys, in the order of the table's key, that cut the table into parts of about the same size. They come
	// from samples or statistics: the table is not counted, nor read. None where it is small, or cannot be cut.
	Split(ctx context.Context, table string, n int) ([]Bound, error)
	// Begin opens a read-only transaction for one chunk of a table, and returns what it sees of the log. The transaction sees all that
	// the log has up to after, the place that the stream had passed: Begin waits for that, as long as ctx lasts, and says what it
	// waits for if that takes long. Two calls one after the other have views of which the second sees whatever the first does.
	Begin(ctx context.Context, table string, after checkpoint.Position) (View, error)
	// Read reads a chunk in the transaction that Begin opened, and ends the transaction. It calls add for each row, in order, while more
	// rows are on their way. After an error those that were added count for nothing. The shape of the table is the one that the rows were
	// read under, and equals the stream's: same columns, key and fingerprint, and the same value for the same datum.
	Read(ctx context.Context, c Chunk, add Add) (End, error)
	// Close closes the connection. It does not block for long.
	Close()
}

// Bound is the key of a row, as a Reader writes it: a JSON value. It is kept in the progress record, and survives a restart with another
// version. Nil stands for no bound.
type Bound []byte

// Chunk says which rows of a table are read.
type Chunk struct {
	Table string
	// Where is the condition of the configuration, without the word WHERE; empty: none.
	Where string
	// From and To bound the keys: after From, up to and with To. Rows come in the order of the key, at most Limit of them. A table
	// that has no order is read whole, whatever Limit says, or by places in its file.
	From, To Bound
	Limit    int
	// Keys, when there are any, stand for the bounds: the rows with these keys, each the values of the key's columns as an event has
	// them. A key that is not there has no row.
	Keys [][]change.Value
	// Raw, if it is set, takes rows in the form in which they were read. A Reader that has them in none calls add.
	Raw Raw
}

// Add takes a row of a chunk: one value for each column of its table, which are kept. Where one of them cannot be represented, inexact says why.
type Add func(t *change.Table, values []change.Value, inexact error)

// End is what comes after the rows of a chunk.
type End struct {
	// Next is where the next chunk of the range begins, its From; nil: the range ends here.
	Next Bound
	// Held says that the transaction is still open, and that Read is to be called again with Next, without Begin. So is a table without
	// any order read whole, in parts of about Limit rows, with bounded memory. A progress record does not keep such a Next.
	Held bool
}

// View is what a transaction sees of the log. It may be used by another goroutine than its Reader.
type View interface {
	// Sees reports whether all changes of a transaction of the stream were visible. It answers false where that is not certain.
	Sees(tx *change.Tx) bool
	// Reached reports whether a stream that has come to this place has passed every transaction of which changes were visible.
	Reached(at checkpoint.Position) bool
}
