package mysqlcdc

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
)

// errTruncated means that an event ends before what it announces.
var errTruncated = errors.New("the event is truncated: `mysqlbinlog --verify-binlog-checksum` on the file tells whether the server's log is " +
	"damaged; if so, take a new snapshot of the tables and start behind the damage")

// maxInflated bounds what one compressed event may grow to; MySQL's greatest event is 1 GiB.
const maxInflated = 1 << 30

// cursor reads little-endian fields. A read past the end gives zeros and sets short, so that a parser checks once.
type cursor struct {
	b     []byte
	short bool
}

func (c *cursor) take(n int) []byte {
	if n < 0 || n > len(c.b) {
		c.short, c.b = true, nil
		return nil
	}
	p := c.b[:n:n]
	c.b = c.b[n:]
	return p
}

// uint reads an integer of n bytes, at most 8.
func (c *cursor) uint(n int) uint64 {
	return uintLE(c.take(n))
}

func uintLE(p []byte) (v uint64) {
	for i, b := range p {
		v |= uint64(b) << (8 * i)
	}
	return v
}

// lenenc reads a length-encoded integer (MySQL protocol, "Length-Encoded Integers").
func (c *cursor) lenenc() uint64 {
	switch first := c.uint(1); first {
	case 0xfb, 0xff:
		c.short, c.b = true, nil
		return 0
	case 0xfc:
		return c.uint(2)
	case 0xfd:
		return c.uint(3)
	case 0xfe:
		return c.uint(8)
	default:
		return first
	}
}

// length reads a length-encoded integer that counts bytes or things of at least a byte that follow.
func (c *cursor) length() int {
	n := c.lenenc()
	if n > uint64(len(c.b)) {
		c.short, c.b = true, nil
		return 0
	}
	return int(n)
}

// eventHeader is the common header of every event (MySQL internals, "Binlog Event header").
type eventHeader struct {
	timestamp uint32
	kind      replication.EventType
	serverID  uint32
	size      uint32
	logPos    uint32
	flags     uint16
}

func (h eventHeader) artificial() bool { return h.flags&replication.LOG_EVENT_ARTIFICIAL_F != 0 }

// parseHeader splits an event into its header and its body, which still has the checksum, if there is one.
func parseHeader(data []byte) (eventHeader, []byte, error) {
	if len(data) < replication.EventHeaderSize {
		return eventHeader{}, nil, errTruncated
	}
	le := binary.LittleEndian
	h := eventHeader{
		timestamp: le.Uint32(data), kind: replication.EventType(data[4]), serverID: le.Uint32(data[5:]),
		size: le.Uint32(data[9:]), logPos: le.Uint32(data[13:]), flags: le.Uint16(data[17:]),
	}
	if uint64(h.size) != uint64(len(data)) {
		return h, nil, fmt.Errorf("%w: %s of %d bytes says that it has %d", errTruncated, h.kind, len(data), h.size)
	}
	return h, data[replication.EventHeaderSize:], nil
}

// tableMap is a TABLE_MAP_EVENT: the shape of the rows events that follow it.
type tableMap struct {
	id        uint64
	db, table string
	// body is everything behind id and flags: equal bodies are equal shapes.
	body     []byte
	types    []byte
	metas    []uint16
	nullable []byte
	optional []byte
	// widths are those of the columns, unless badWidth says why one of them is unknown: then rows cannot be told apart.
	widths   []width
	badWidth error
}

func (m *tableMap) name() string { return m.db + "." + m.table }

// tableMapHeaderSize is the size of the table id and the flags.
const tableMapHeaderSize = 8

// parseTableMap reads a TABLE_MAP_EVENT. The result refers to body.
func parseTableMap(body []byte) (*tableMap, error) {
	c := cursor{b: body}
	m := &tableMap{id: c.uint(6)}
	c.take(2)
	m.body = c.b
	m.db = string(c.take(int(c.uint(1))))
	c.take(1)
	m.table = string(c.take(int(c.uint(1))))
	c.take(1)
	m.types = c.take(c.length())
	meta := cursor{b: c.take(c.length())}
	m.metas = make([]uint16, len(m.types))
	for i, t := range m.types {
		m.metas[i] = readMeta(&meta, t)
	}
	m.nullable = c.take((len(m.types) + 7) / 8)
	m.optional = c.b
	if c.short || meta.short {
		return nil, fmt.Errorf("table map of %s: %w", m.name(), errTruncated)
	}
	m.setWidths()
	return m, nil
}

// The types that go-mysql does not name.
const (
	typeMariaBlobCompressed    = 140
	typeMariaVarcharCompressed = 141
)

// readMeta reads the metadata of one column (MySQL source, Table_map_log_event, "Metadata Type"). Numbers of two parts keep
// the first part in the high byte.
func readMeta(c *cursor, t byte) uint16 {
	switch t {
	case mysql.MYSQL_TYPE_STRING, mysql.MYSQL_TYPE_ENUM, mysql.MYSQL_TYPE_SET, mysql.MYSQL_TYPE_NEWDECIMAL:
		hi := c.uint(1)
		return uint16(hi<<8 | c.uint(1))
	case mysql.MYSQL_TYPE_VARCHAR, mysql.MYSQL_TYPE_VAR_STRING, mysql.MYSQL_TYPE_BIT, typeMariaVarcharCompressed:
		return uint16(c.uint(2))
	case mysql.MYSQL_TYPE_FLOAT, mysql.MYSQL_TYPE_DOUBLE, mysql.MYSQL_TYPE_BLOB, mysql.MYSQL_TYPE_TINY_BLOB,
		mysql.MYSQL_TYPE_MEDIUM_BLOB, mysql.MYSQL_TYPE_LONG_BLOB, mysql.MYSQL_TYPE_GEOMETRY, mysql.MYSQL_TYPE_JSON,
		mysql.MYSQL_TYPE_VECTOR, mysql.MYSQL_TYPE_TIME2, mysql.MYSQL_TYPE_DATETIME2, mysql.MYSQL_TYPE_TIMESTAMP2,
		typeMariaBlobCompressed:
		return uint16(c.uint(1))
	default:
		return 0
	}
}

// realType returns what a column is: ENUM and SET travel as STRING, with the type in the high byte of their metadata, and a
// STRING longer than 255 bytes hides two bits of its length there (MySQL source, Field_string::do_save_field_metadata).
func realType(t byte, meta uint16) (real byte, length uint16) {
	if t != mysql.MYSQL_TYPE_STRING || meta < 256 {
		return t, meta
	}
	hi, lo := byte(meta>>8), meta&0xff
	if hi&0x30 != 0x30 {
		return hi | 0x30, lo | (uint16(hi&0x30)^0x30)<<4
	}
	return hi, lo
}

// rowsKind is what a rows event does.
type rowsKind byte

const (
	rowsInsert rowsKind = iota
	rowsUpdate
	rowsDelete
)

// rowsEvent is a rows event whose images are not decoded.
type rowsEvent struct {
	kind    rowsKind
	partial bool // PARTIAL_UPDATE_ROWS_EVENT: after images may hold JSON differences
	tableID uint64
	columns int
	// before and after say which columns the images have; an event has one or both.
	before, after   []byte
	nBefore, nAfter int // how many columns they have
	images          []byte
}

// blank reports an event of one row without bytes: with binlog_row_image=MINIMAL, an INSERT that gives no column a value. MySQL never
// puts two of them into an event. What ends a statement and has no row looks the same, and is of no table.
func (e *rowsEvent) blank() bool { return e.kind == rowsInsert && e.nAfter == 0 && len(e.images) == 0 }

// rowsEventKind tells whether an event is a rows event, and of what kind and version.
func rowsEventKind(t replication.EventType) (kind rowsKind, version int, compressed, ok bool) {
	switch t {
	case replication.WRITE_ROWS_EVENTv1:
		return rowsInsert, 1, false, true
	case replication.UPDATE_ROWS_EVENTv1:
		return rowsUpdate, 1, false, true
	case replication.DELETE_ROWS_EVENTv1:
		return rowsDelete, 1, false, true
	case replication.WRITE_ROWS_EVENTv2:
		return rowsInsert, 2, false, true
	case replication.UPDATE_ROWS_EVENTv2, replication.PARTIAL_UPDATE_ROWS_EVENT:
		return rowsUpdate, 2, false, true
	case replication.DELETE_ROWS_EVENTv2:
		return rowsDelete, 2, false, true
	case replication.MARIADB_WRITE_ROWS_COMPRESSED_EVENT_V1:
		return rowsInsert, 1, true, true
	case replication.MARIADB_UPDATE_ROWS_COMPRESSED_EVENT_V1:
		return rowsUpdate, 1, true, true
	case replication.MARIADB_DELETE_ROWS_COMPRESSED_EVENT_V1:
		return rowsDelete, 1, true, true
	default:
		return 0, 0, false, false
	}
}

// parseRows reads the head of a rows event. The result refers to body, unless the event is compressed.
func parseRows(t replication.EventType, body []byte) (*rowsEvent, error) {
	kind, version, compressed, ok := rowsEventKind(t)
	if !ok {
		return nil, fmt.Errorf("%s is not a rows event", t)
	}
	c := cursor{b: body}
	e := &rowsEvent{kind: kind, partial: t == replication.PARTIAL_UPDATE_ROWS_EVENT, tableID: c.uint(6)}
	c.take(2)
	if version == 2 {
		c.take(int(c.uint(2)) - 2) // the length counts itself
	}
	columns := c.lenenc()
	if columns > 4096 {
		return nil, fmt.Errorf("rows event of %d columns: %w", columns, errTruncated)
	}
	e.columns = int(columns)
	first := c.take((e.columns + 7) / 8)
	switch kind {
	case rowsInsert:
		e.after = first
	case rowsDelete:
		e.before = first
	case rowsUpdate:
		e.before, e.after = first, c.take((e.columns+7)/8)
	}
	if c.short {
		return nil, fmt.Errorf("rows event: %w", errTruncated)
	}
	if e.before != nil {
		e.nBefore = countSet(e.before, e.columns)
	}
	if e.after != nil {
		e.nAfter = countSet(e.after, e.columns)
	}
	e.images = c.b
	if compressed {
		var err error
		if e.images, err = inflateMaria(c.b); err != nil {
			return nil, fmt.Errorf("compressed rows event: %w", err)
		}
	}
	return e, nil
}

// inflateMaria undoes MariaDB's compression of events and columns: a byte with the algorithm (0, zlib) and the width of the
// length, the length in big-endian order, the data (MariaDB source, binlog_buf_uncompress).
func inflateMaria(p []byte) ([]byte, error) {
	c := cursor{b: p}
	head := c.uint(1)
	var size uint64
	for _, b := range c.take(int(head & 7)) {
		size = size<<8 | uint64(b)
	}
	if c.short {
		return nil, errTruncated
	}
	if head&0x80 == 0 || head&0x70 != 0 || size > maxInflated {
		return nil, fmt.Errorf("unknown compression %#x of %d bytes", head, size)
	}
	z, err := zlib.NewReader(bytes.NewReader(c.b))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	var out bytes.Buffer
	out.Grow(int(min(size, 1<<20)))
	if _, err := io.CopyN(&out, z, int64(size)); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// isSet reports bit i of a bitmap, least significant bit first.
func isSet(bitmap []byte, i int) bool { return bitmap[i>>3]&(1<<(i&7)) != 0 }

// countSet counts the set bits among the first n.
func countSet(bitmap []byte, n int) (count int) {
	for i, b := range bitmap {
		if left := n - 8*i; left < 8 {
			b &= 1<<max(left, 0) - 1
		}
		count += bits.OnesCount8(b)
	}
	return count
}

// uintBE reads a big-endian integer of up to 8 bytes.
func uintBE(p []byte) (v uint64) {
	for _, b := range p {
		v = v<<8 | uint64(b)
	}
	return v
}

func checkSum(data, body []byte) ([]byte, error) {
	n := len(body) - replication.BinlogChecksumLength
	if n < 0 {
		return nil, errTruncated
	}
	if crc32.ChecksumIEEE(data[:len(data)-replication.BinlogChecksumLength]) != binary.LittleEndian.Uint32(body[n:]) {
		return nil, errors.New("the checksum is wrong")
	}
	return body[:n], nil
}

// nextEvent reads one event; io.EOF means that there is none.
func nextEvent(r io.Reader) ([]byte, error) {
	var head [replication.EventHeaderSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errTruncated
		}
		return nil, err
	}
	size := binary.LittleEndian.Uint32(head[9:])
	if size < replication.EventHeaderSize || size > maxInflated {
		return nil, fmt.Errorf("an event of %d bytes", size)
	}
	var buf bytes.Buffer // grows with what is there, not with what is announced
	buf.Grow(int(min(size, 64<<10)))
	buf.Write(head[:])
	if _, err := io.CopyN(&buf, r, int64(size)-replication.EventHeaderSize); err != nil {
		return nil, errTruncated
	}
	return buf.Bytes(), nil
}
