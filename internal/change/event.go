package change

import (
	"strconv"
	"sync"
	"time"
	"weak"

	"github.com/deltaforge/deltaforge/internal/exactly"
)

// Op is what happened to a row, as the one letter that the envelope carries.
type Op byte

// The operations.
const (
	Create   Op = 'c'
	Update   Op = 'u'
	Delete   Op = 'd'
	Read     Op = 'r' // a row of a snapshot
	Truncate Op = 't'
	Message  Op = 'm' // a logical message, pg_logical_emit_message
	Schema   Op = 's' // a change of a table's shape, Event.Change says which
)

// Name returns the operation as a word: insert, update, delete, read, truncate, message, schema.
func (o Op) Name() string {
	switch o {
	case Create:
		return "insert"
	case Update:
		return "update"
	case Delete:
		return "delete"
	case Read:
		return "read"
	case Truncate:
		return "truncate"
	case Message:
		return "message"
	case Schema:
		return "schema"
	default:
		return string(rune(o))
	}
}

// Snapshot says whether an event comes from a snapshot, in the words of the envelope.
type Snapshot string

// The snapshot markers.
const (
	SnapshotFalse       Snapshot = "false"
	SnapshotTrue        Snapshot = "true"
	SnapshotLast        Snapshot = "last"
	SnapshotIncremental Snapshot = "incremental"
)

// Tx is what all events of one transaction share. It is immutable once the first event refers to it.
type Tx struct {
	// ID is the database's name for the transaction: the GTID, or the xid; empty where there is none.
	ID string
	// Position is the transaction's own place in the log, short and stable: the GTID or "file:pos" of its start for
	// MySQL, the commit LSN for PostgreSQL. With the index it makes the event id.
	Position string
	// CommitTime is the commit time by the database's clock, in UTC.
	CommitTime time.Time
	// ServerID and GTID are MySQL's; GTID is empty without GTIDs.
	ServerID uint32
	GTID     string
	// File and Pos are MySQL's: where the transaction starts in the log of the server that it was read from. File is empty where that
	// is not known for certain.
	File string
	Pos  uint64
	// XA says that it is the commit of an XA transaction of MySQL, which may be logged before the engine has it, whatever the server says.
	XA bool
	// XID is PostgreSQL's transaction id.
	XID uint32

	once sync.Once
	meta txMeta
}

// txMeta is the metadata that all messages of a transaction share, each value in its interface once.
type txMeta struct{ id, position, commitTsMs any }

func (t *Tx) shared() *txMeta {
	t.once.Do(func() {
		t.meta = txMeta{id: t.ID, position: t.Position, commitTsMs: strconv.FormatInt(t.CommitTime.UnixMilli(), 10)}
	})
	return &t.meta
}

// Origin is what events that were read together share. It is immutable once the first event refers to it.
type Origin struct {
	Tx *Tx
	// ReadAt is when the last byte of the events was read.
	ReadAt   time.Time
	Snapshot Snapshot
	// File is MySQL's binlog file.
	File string
}

// SchemaChange says what became of the table with one name. A rename is two changes: the table is gone under its old name,
// and there under its new one.
type SchemaChange struct {
	// DDL is the statement, in UTF-8; empty where the log does not have it.
	DDL string
	// Old and New are the table before and after the statement. Each is nil when there was no such table, or when its
	// shape is not known. At least one is set.
	Old, New *Table
}

// Event is one change of one row, a truncate, a logical message, or a change of a table's shape. A logical message is an
// insert-like event on the table that MessageTable returns, so that nothing downstream needs a special case for it.
type Event struct {
	Op Op
	// Table is the table of the row. For a Schema event, it is the table after the change, or before the change if the
	// table is gone.
	Table *Table
	*Origin
	// Index counts from 1 in the transaction, before table filters.
	Index uint64
	// Sub is above 0 for an event that has the Index of the event before it: a schema change of PostgreSQL. Such events with
	// the same Index count from 1.
	Sub int
	// Images are the row before the change and after it: Before and After.
	Images
	// Change is what a Schema event is about; such an event has no row images, and its key is the table's name.
	Change *SchemaChange
	// Ident stands for Index in the event id of a row that a snapshot has read, which has no place in a transaction: what identifies
	// the row, of letters, digits and ".,_-" only. Such an event has the Index 0.
	Ident []byte
	// Pos and Row are MySQL's: position of the rows event in its file, index of the row in it.
	Pos uint64
	Row int
	// LSN is PostgreSQL's position of the change itself, 0 when unknown.
	LSN uint64

	// Of is the change that the event's message is only a part of, and Part which one, counted from 0, such as the tombstone after a
	// delete. Of is nil if the message says all. A part has its own Op and images: those that its message is about.
	Of   *Event
	Part int
	// Tombstone says that the message has no payload, by which a compacted topic forgets the key. Followed says that such a message
	// follows.
	Tombstone, Followed bool
	// Silent says that the pipeline does not get the message. The source follows what it says, and its place in the log. A whole event that is
	// silent was delivered in an earlier session.
	Silent bool
	// Marker says that the event is no change, but the begin or the end of a transaction, a row of the table that TransactionTable returns.
	Marker Marker
	// Headers are what the message says beside its payload and key.
	Headers []Header

	// Mark is the event's place among what its source has handed out; nil: the position is not kept in the sink.
	Mark *exactly.Mark

	// What the event's message is made of, so that it can be made again.
	payload, key []byte
	err          error

	// The events that its message was handed out with, and its index among them. The pointer is weak: events that were decoded together share their
	// memory, and some are handed out with these, some with those, so that a chain of strong ones would keep every event there ever was.
	batch weak.Pointer[Siblings]
	at    int
	of    *Event // what Derive made it of
}

// Derive returns an event in the same place of the log, with the same id, for a processor that changes what the event says. Replace makes
// a message of it.
func (e *Event) Derive() *Event {
	d := *e
	d.payload, d.key, d.err, d.of = nil, nil, nil, e.Root()
	return &d
}

// Root returns the event that the source made: the event itself, or what it was derived from.
func (e *Event) Root() *Event {
	if e.of != nil {
		return e.of
	}
	return e
}

// AppendID appends the event id, "<position of the transaction>:<index>", ".<sub>" where that is above 0, and "-<part>" where that is
// above 0. It is the same on every replay. For a row of a snapshot it is "<load, table and part>:<row>".
func (e *Event) AppendID(dst []byte) []byte {
	dst = append(dst, e.Tx.Position...)
	dst = append(dst, ':')
	return e.AppendNumber(dst)
}

// Marker is what an event says of its transaction.
type Marker uint8

// The markers. A Begin is followed by the first event of its transaction, in one batch with it.
const (
	NoMarker Marker = iota
	Begin
	End
)

// AppendNumber appends the last part of the event id.
func (e *Event) AppendNumber(dst []byte) []byte {
	if e.Ident != nil {
		return append(dst, e.Ident...)
	}
	dst = strconv.AppendUint(dst, e.Index, 10)
	if e.Sub > 0 {
		dst = append(dst, '.')
		dst = strconv.AppendInt(dst, int64(e.Sub), 10)
	}
	if e.Part > 0 {
		dst = append(dst, '-')
		dst = strconv.AppendInt(dst, int64(e.Part), 10)
	}
	return dst
}
