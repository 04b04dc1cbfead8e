// Package pgoutput is the messages of a replication stream: bytes to typed messages. Rows stay undecoded.
package pgoutput

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
)

// The messages of pgoutput, protocol version 1 ("Logical Replication Message Formats" in PostgreSQL's manual).
const (
	MsgBegin    = 'B'
	MsgCommit   = 'C'
	MsgOrigin   = 'O'
	MsgRelation = 'R'
	MsgType     = 'Y'
	MsgInsert   = 'I'
	MsgUpdate   = 'U'
	MsgDelete   = 'D'
	MsgTruncate = 'T'
	MsgMessage  = 'M'
)

// Cursor reads a message and remembers when it was too short. Reads after the end return zero.
type Cursor struct {
	B   []byte
	Bad bool
}

// Take reads n bytes, which stay those of the message.
func (c *Cursor) Take(n int) []byte {
	if n < 0 || n > len(c.B) {
		c.Bad = true
		c.B = nil
		return nil
	}
	p := c.B[:n:n]
	c.B = c.B[n:]
	return p
}

// U8 reads a byte.
func (c *Cursor) U8() byte {
	if p := c.Take(1); p != nil {
		return p[0]
	}
	return 0
}

// U16 reads a 16-bit integer.
func (c *Cursor) U16() uint16 {
	if p := c.Take(2); p != nil {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

// U32 reads a 32-bit integer.
func (c *Cursor) U32() uint32 {
	if p := c.Take(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (c *Cursor) u64() uint64 {
	if p := c.Take(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

// str reads a string that ends with a zero byte.
func (c *Cursor) str() string {
	i := bytes.IndexByte(c.B, 0)
	if i < 0 {
		c.Bad = true
		c.B = nil
		return ""
	}
	s := string(c.B[:i])
	c.B = c.B[i+1:]
	return s
}

// Done reports whether the message was read exactly to its end.
func (c *Cursor) Done(what string) error {
	if c.Bad {
		return fmt.Errorf("%s message is cut short", what)
	}
	if len(c.B) != 0 {
		return fmt.Errorf("%s message has %d bytes too many", what, len(c.B))
	}
	return nil
}

// WALData is an XLogData message: one pgoutput message and where it is in the log.
type WALData struct {
	Start, end lsn.LSN
	Data       []byte
}

// ParseWALData reads the body of an XLogData message.
func ParseWALData(b []byte) (WALData, error) {
	c := Cursor{B: b}
	m := WALData{Start: lsn.LSN(c.u64()), end: lsn.LSN(c.u64())}
	c.u64() // the server's clock
	if c.Bad || len(c.B) == 0 {
		return WALData{}, fmt.Errorf("XLogData message of %d bytes is cut short", len(b))
	}
	m.Data = c.B
	return m, nil
}

// Keepalive is a primary keepalive message.
type Keepalive struct {
	End   lsn.LSN // what the server has decoded and sent
	Reply bool
}

// ParseKeepalive reads the body of a keepalive.
func ParseKeepalive(b []byte) (Keepalive, error) {
	c := Cursor{B: b}
	k := Keepalive{End: lsn.LSN(c.u64())}
	c.u64() // the server's clock
	k.Reply = c.U8() != 0
	return k, c.Done("keepalive")
}

// Begin starts a transaction.
type Begin struct {
	Final  lsn.LSN // the commit record
	Commit time.Time
	XID    uint32
}

// ParseBegin reads a Begin message.
func ParseBegin(b []byte) (Begin, error) {
	c := Cursor{B: b[1:]}
	m := Begin{Final: lsn.LSN(c.u64()), Commit: fromPostgresTime(int64(c.u64())), XID: c.U32()}
	return m, c.Done("Begin")
}

// Commit ends a transaction.
type Commit struct {
	commit lsn.LSN // the commit record
	End    lsn.LSN // after it
}

// ParseCommit reads a Commit message.
func ParseCommit(b []byte) (Commit, error) {
	c := Cursor{B: b[1:]}
	c.U8() // flags, unused
	m := Commit{commit: lsn.LSN(c.u64()), End: lsn.LSN(c.u64())}
	c.u64() // commit time, known from Begin
	return m, c.Done("Commit")
}

// Relation describes a table as the rows after it were written under.
type Relation struct {
	OID      uint32
	Schema   string
	Name     string
	Identity byte // d default, n nothing, f full, i index
	Columns  []Column
}

// Column is a column of a Relation message.
type Column struct {
	Name   string
	Key    bool // part of the replica identity
	Typ    uint32
	Typmod int32
}

// ParseRelation reads a Relation message.
func ParseRelation(b []byte) (Relation, error) {
	c := Cursor{B: b[1:]}
	m := Relation{OID: c.U32(), Schema: c.str(), Name: c.str(), Identity: c.U8()}
	if m.Schema == "" {
		m.Schema = "pg_catalog"
	}
	n := int(c.U16())
	// A column takes at least ten bytes, so a wrong count cannot make this large.
	m.Columns = make([]Column, 0, min(n, len(c.B)/10))
	for range n {
		col := Column{Key: c.U8()&1 != 0, Name: c.str(), Typ: c.U32(), Typmod: int32(c.U32())}
		if c.Bad {
			break
		}
		m.Columns = append(m.Columns, col)
	}
	return m, c.Done("Relation")
}

// RelationOf returns the OID that an Insert, Update or Delete message is about.
func RelationOf(b []byte) (uint32, error) {
	if len(b) < 5 {
		return 0, fmt.Errorf("row message of %d bytes is cut short", len(b))
	}
	return binary.BigEndian.Uint32(b[1:]), nil
}

// ParseTruncate reads a Truncate message, and returns the OIDs of the tables.
func ParseTruncate(b []byte) ([]uint32, error) {
	c := Cursor{B: b[1:]}
	n := int(c.U32())
	c.U8() // CASCADE, RESTART IDENTITY
	if n > len(c.B)/4 {
		return nil, fmt.Errorf("message Truncate of %d bytes is cut short", len(b))
	}
	oids := make([]uint32, n)
	for i := range oids {
		oids[i] = c.U32()
	}
	return oids, c.Done("Truncate")
}

// Message is what pg_logical_emit_message writes.
type Message struct {
	Transactional bool
	LSN           lsn.LSN // after the record
	Prefix        string
	Content       []byte
}

// ParseMessage reads a logical message.
func ParseMessage(b []byte) (Message, error) {
	c := Cursor{B: b[1:]}
	m := Message{Transactional: c.U8()&1 != 0, LSN: lsn.LSN(c.u64()), Prefix: c.str()}
	m.Content = c.Take(int(c.U32()))
	return m, c.Done("Message")
}

// The kinds of a column in a tuple.
const (
	TupleNull      = 'n'
	TupleUnchanged = 'u'
	TupleText      = 't'
	tupleBinary    = 'b'
)

// The markers in front of a tuple.
const (
	TupleNew = 'N'
	TupleOld = 'O' // the whole old row, replica identity FULL
	TupleKey = 'K' // the old key
)
