package postgrescdc

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"
)

// The messages of pgoutput, protocol version 1 ("Logical Replication Message Formats" in PostgreSQL's manual).
const (
	msgBegin    = 'B'
	msgCommit   = 'C'
	msgOrigin   = 'O'
	msgRelation = 'R'
	msgType     = 'Y'
	msgInsert   = 'I'
	msgUpdate   = 'U'
	msgDelete   = 'D'
	msgTruncate = 'T'
	msgMessage  = 'M'
)

// cursor reads a message and remembers when it was too short. Reads after the end return zero.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n int) []byte {
	if n < 0 || n > len(c.b) {
		c.bad = true
		c.b = nil
		return nil
	}
	p := c.b[:n:n]
	c.b = c.b[n:]
	return p
}

func (c *cursor) u8() byte {
	if p := c.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (c *cursor) u16() uint16 {
	if p := c.take(2); p != nil {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if p := c.take(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (c *cursor) u64() uint64 {
	if p := c.take(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

// str reads a string that ends with a zero byte.
func (c *cursor) str() string {
	i := bytes.IndexByte(c.b, 0)
	if i < 0 {
		c.bad = true
		c.b = nil
		return ""
	}
	s := string(c.b[:i])
	c.b = c.b[i+1:]
	return s
}

// done reports whether the message was read exactly to its end.
func (c *cursor) done(what string) error {
	if c.bad {
		return fmt.Errorf("%s message is cut short", what)
	}
	if len(c.b) != 0 {
		return fmt.Errorf("%s message has %d bytes too many", what, len(c.b))
	}
	return nil
}

// walData is an XLogData message: one pgoutput message and where it is in the log.
type walData struct {
	start, end LSN
	data       []byte
}

func parseWALData(b []byte) (walData, error) {
	c := cursor{b: b}
	m := walData{start: LSN(c.u64()), end: LSN(c.u64())}
	c.u64() // the server's clock
	if c.bad || len(c.b) == 0 {
		return walData{}, fmt.Errorf("XLogData message of %d bytes is cut short", len(b))
	}
	m.data = c.b
	return m, nil
}

// keepalive is a primary keepalive message.
type keepalive struct {
	end   LSN // what the server has decoded and sent
	reply bool
}

func parseKeepalive(b []byte) (keepalive, error) {
	c := cursor{b: b}
	k := keepalive{end: LSN(c.u64())}
	c.u64() // the server's clock
	k.reply = c.u8() != 0
	return k, c.done("keepalive")
}

// beginMsg starts a transaction.
type beginMsg struct {
	final  LSN // the commit record
	commit time.Time
	xid    uint32
}

func parseBegin(b []byte) (beginMsg, error) {
	c := cursor{b: b[1:]}
	m := beginMsg{final: LSN(c.u64()), commit: fromPostgresTime(int64(c.u64())), xid: c.u32()}
	return m, c.done("Begin")
}

// commitMsg ends a transaction.
type commitMsg struct {
	commit LSN // the commit record
	end    LSN // after it
}

func parseCommit(b []byte) (commitMsg, error) {
	c := cursor{b: b[1:]}
	c.u8() // flags, unused
	m := commitMsg{commit: LSN(c.u64()), end: LSN(c.u64())}
	c.u64() // commit time, known from Begin
	return m, c.done("Commit")
}

// relationMsg describes a table as the rows after it were written under.
type relationMsg struct {
	oid      uint32
	schema   string
	name     string
	identity byte // d default, n nothing, f full, i index
	columns  []relationColumn
}

type relationColumn struct {
	name   string
	key    bool // part of the replica identity
	typ    uint32
	typmod int32
}

func parseRelation(b []byte) (relationMsg, error) {
	c := cursor{b: b[1:]}
	m := relationMsg{oid: c.u32(), schema: c.str(), name: c.str(), identity: c.u8()}
	if m.schema == "" {
		m.schema = "pg_catalog"
	}
	n := int(c.u16())
	// A column takes at least ten bytes, so a wrong count cannot make this large.
	m.columns = make([]relationColumn, 0, min(n, len(c.b)/10))
	for range n {
		col := relationColumn{key: c.u8()&1 != 0, name: c.str(), typ: c.u32(), typmod: int32(c.u32())}
		if c.bad {
			break
		}
		m.columns = append(m.columns, col)
	}
	return m, c.done("Relation")
}

// relationOf returns the OID that an Insert, Update or Delete message is about.
func relationOf(b []byte) (uint32, error) {
	if len(b) < 5 {
		return 0, fmt.Errorf("row message of %d bytes is cut short", len(b))
	}
	return binary.BigEndian.Uint32(b[1:]), nil
}

func parseTruncate(b []byte) ([]uint32, error) {
	c := cursor{b: b[1:]}
	n := int(c.u32())
	c.u8() // CASCADE, RESTART IDENTITY
	if n > len(c.b)/4 {
		return nil, fmt.Errorf("message Truncate of %d bytes is cut short", len(b))
	}
	oids := make([]uint32, n)
	for i := range oids {
		oids[i] = c.u32()
	}
	return oids, c.done("Truncate")
}

// logicalMsg is what pg_logical_emit_message writes.
type logicalMsg struct {
	transactional bool
	lsn           LSN // after the record
	prefix        string
	content       []byte
}

func parseLogicalMessage(b []byte) (logicalMsg, error) {
	c := cursor{b: b[1:]}
	m := logicalMsg{transactional: c.u8()&1 != 0, lsn: LSN(c.u64()), prefix: c.str()}
	m.content = c.take(int(c.u32()))
	return m, c.done("Message")
}

// The kinds of a column in a tuple.
const (
	tupleNull      = 'n'
	tupleUnchanged = 'u'
	tupleText      = 't'
	tupleBinary    = 'b'
)

// The markers in front of a tuple.
const (
	tupleNew = 'N'
	tupleOld = 'O' // the whole old row, replica identity FULL
	tupleKey = 'K' // the old key
)
