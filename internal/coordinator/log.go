// Package coordinator is the spine between a database's log and the pipeline: a service.BatchInput over any Log. It decodes
// on a pool that keeps order, cuts batches at transaction boundaries, follows acknowledgements, saves positions, and starts
// a new session when one has failed.
package coordinator

import (
	"context"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/plane"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// Log reads one database's change log. Inputs implement it; the coordinator calls it.
type Log interface {
	// Run sends the segments after from to out, in log order, until ctx ends or the log fails. It opens its own
	// connection, keeps it alive while out blocks, and has closed it when it returns. Only one Run is active at a
	// time. It always returns a non-nil error: that of ctx when ctx ended. Errors carry a kind (fault.WithKind).
	//
	// The first thing Run sends, as soon as the server streams, is a Segment without rows. When from is zero, the
	// input's own start configuration applies and that segment's Commit is the position Run starts at, so that it is
	// saved before anything else happens. Otherwise its Commit is nil: it only says that the log is connected.
	//
	// From may be a position that is neither saved nor delivered: a session goes on where the one before it ended, while the events that
	// were read until then are still on their way. Only Confirm says what is saved; it is called with the saved position before the first
	// Run.
	//
	// When from.Sent is not zero, Run leaves out the first from.Sent events of the first transaction after
	// from.Commit.
	Run(ctx context.Context, from checkpoint.Token, out chan<- Segment) error
	// Confirm reports that everything up to tok is delivered and saved. It does not block, and is called from any
	// goroutine, also when no Run is active.
	Confirm(tok checkpoint.Token)
}

// LagReporter is implemented by a Log that knows how far its server's end of log is ahead of the newest confirmed position.
type LagReporter interface {
	// LagBytes returns the distance in bytes, or false when it is unknown. Called about once a second, from any
	// goroutine, also when no Run is active; it does not block.
	LagBytes() (int64, bool)
}

// LagProber is a LagReporter that can ask its server for the end of its log while no Run is active.
type LagProber interface {
	// ProbeLag brings what LagBytes returns up to date. It opens a connection of its own and closes it, and is called about twice a minute
	// while the source fails to run, from one goroutine; ctx bounds it.
	ProbeLag(ctx context.Context) error
}

// Rememberer is implemented by a Log whose server may know that this source has read from it before. With that, a store that has lost its
// content is not taken for a first start.
type Rememberer interface {
	// Remember is called when the store holds no position, before the first Run. It opens a connection of its own and closes it; ctx
	// bounds it.
	Remember(ctx context.Context) (Memory, error)
}

// Memory is what a server knows of an earlier run of a source. The zero value means that it knows nothing.
type Memory struct {
	// Trace is the evidence of the earlier run, for a person to read: `replication slot "shop" has confirmed 0/19604B0`. It is empty
	// when there is none.
	Trace string
	// Resume is a position from which nothing is lost. The source goes on there, with a warning. When it is nil, the position is lost
	// and the source stops.
	Resume checkpoint.Position
	// Way is the command or statement with which a person makes a first start possible, if there is one. It is used when Resume is nil.
	Way string
}

// Waiter is implemented by a Log that may wait for long before it streams.
type Waiter interface {
	// Waiting says what Run waits for before its first segment, with the way out, and since when. An empty text means that it does not
	// wait. Waiting does not block, and is called from any goroutine.
	Waiting() (what string, since time.Time)
}

// Leaver is implemented by a Log that leaves something on its server when its pipeline is deleted.
type Leaver interface {
	// Leftovers returns what is left on the server. Without drop it does not connect. With drop it removes what is left, by a connection
	// of its own; no Run is active anywhere then. If that fails, it returns an error and also the list, which says what was dropped.
	Leftovers(ctx context.Context, drop bool) ([]plane.Leftover, error)
}

// Tester is implemented by a Log that can say whether it could run from its start configuration, without running.
type Tester interface {
	// Test connects, checks what Run checks before it streams, and that the tables named in full exist. It changes
	// nothing on the server and leaves nothing open. It is called from any goroutine, also while Run is active, and
	// returns every reason it has found.
	Test(ctx context.Context) error
}

// Successor is implemented by a Log that can go on where a connector of Debezium has stopped.
type Successor interface {
	// TakeOver returns the position of what the connector has saved, a JSON object: after everything that it has delivered. It changes nothing
	// on the server and leaves nothing open. The connector does not run.
	TakeOver(ctx context.Context, offset []byte) (checkpoint.Token, error)
}

// Historian is implemented by a Log that has to know more than a position to read on from there, such as the shapes that tables
// had. What it knows is kept as one record beside the position, and saved before any position that may depend on it; after a
// crash it may therefore be ahead of the saved position, never behind.
type Historian interface {
	// Restore hands over the saved record, before the first Run. It is called only when both a record and a position
	// were saved: without a position, a record belongs to nothing. An error wraps checkpoint.ErrBroken or
	// checkpoint.ErrIncompatible, and names the way out.
	Restore(record []byte) error
	// Record returns what is to be saved before any position that Run has sent until now, and a mark for Saved; the
	// record is nil when the last one that was saved still holds. Called from the goroutine that saves.
	Record() (record []byte, mark uint64, err error)
	// Saved reports that the record with that mark is saved.
	Saved(mark uint64)
}

// Snapshotter is implemented by a Log whose tables can be loaded while it runs.
type Snapshotter interface {
	// Snapshots returns what reads the tables. Called once, before anything else; it works offline.
	Snapshots() snapshot.Source
}

// Segment is a stretch of a database's log that is not decoded yet. It never spans transactions: it lies inside one, or
// between two. Segments are bounded: at most some hundreds of rows or about 64 KiB, unless one row or one rows event
// alone is greater.
type Segment struct {
	// Source is the server's identity, for Token.Source.
	Source string
	// Rows are the segment's changes. It is nil when no captured table changed.
	Rows Rows
	// Commit is the position after the segment when a transaction ends with it (or when it lies between
	// transactions). Nil inside a transaction.
	Commit checkpoint.Position
	// CommitTime is the commit time of the transaction that the segment belongs to, by the database's clock. Zero when
	// it says nothing about time.
	CommitTime time.Time
	// ReadAt is when the segment's last byte was read.
	ReadAt time.Time
	// Bytes is how much of the log was read for the segment, filtered tables included.
	Bytes int
	// CaughtUp means that the segment ends at the end of the log, as a heartbeat or keepalive of the server says.
	CaughtUp bool

	seq uint64 // counts the segments of the input, which the coordinator does
}

// Rows are undecoded changes.
type Rows interface {
	// Decode appends one message per change to dst, in log order. Each message is made by change.NewMessage. The index of
	// its event in the transaction increases strictly, except that an event with a Sub has the index of the event before it.
	//
	// A change that cannot be represented exactly becomes a message with an error set (SetError), if the rest of the segment
	// can still be trusted. If not, Decode returns an error that names table and position. It is called once, from any
	// goroutine, while other segments are being decoded. It may wait for a server that the format needs (change.Prepare).
	Decode(ctx context.Context, dst service.MessageBatch) (service.MessageBatch, error)
}
