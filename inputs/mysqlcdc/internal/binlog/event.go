// Package binlog turns the bytes of binlog events into typed events: headers, table maps, rows, GTIDs and statements. Rows stay
// undecoded: this package knows how long values are, not what they mean. It holds no state and asks nobody.
package binlog

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

// ErrTruncated means that an event ends before what it announces.
var ErrTruncated = errors.New("the event is truncated: `mysqlbinlog --verify-binlog-checksum` on the file tells whether the server's log is " +
	"damaged; if so, bring the rows in it over by other means, and start after the damage: `deltaforge checkpoint reset KEY`, and start set to " +
	"a place after it")

// maxInflated bounds what one compressed event may grow to; MySQL's greatest event is 1 GiB.
const maxInflated = 1 << 30

// Cursor reads little-endian fields. A read past the end gives zeros and sets short, so that a parser checks once.
type Cursor struct {
	Rest  []byte
	Short bool
}

// Take returns the next n bytes, which belong to what is read; nil, and Short is set, when there are fewer.
func (c *Cursor) Take(n int) []byte {
	if n < 0 || n > len(c.Rest) {
		c.Short, c.Rest = true, nil
		return nil
	}
	p := c.Rest[:n:n]
	c.Rest = c.Rest[n:]
	return p
}

// Uint reads an integer of n bytes, at most 8.
func (c *Cursor) Uint(n int) uint64 {
	return UintLE(c.Take(n))
}

// UintLE reads a little-endian integer of up to 8 bytes.
func UintLE(p []byte) (v uint64) {
	for i, b := range p {
		v |= uint64(b) << (8 * i)
	}
	return v
}

// Lenenc reads a length-encoded integer (MySQL protocol, "Length-Encoded Integers").
func (c *Cursor) Lenenc() uint64 {
	switch first := c.Uint(1); first {
	case 0xfb, 0xff:
		c.Short, c.Rest = true, nil
		return 0
	case 0xfc:
		return c.Uint(2)
	case 0xfd:
		return c.Uint(3)
	case 0xfe:
		return c.Uint(8)
	default:
		return first
	}
}

// Length reads a length-encoded integer that counts bytes or things of at least a byte that follow.
func (c *Cursor) Length() int {
	n := c.Lenenc()
	if n > uint64(len(c.Rest)) {
		c.Short, c.Rest = true, nil
		return 0
	}
	return int(n)
}

// Header is the common header of every event (MySQL internals, "Binlog Event header").
type Header struct {
	Timestamp uint32
	Kind      replication.EventType
	ServerID  uint32
	Size      uint32
	LogPos    uint32
	flags     uint16
}

// Artificial reports an event that the server has made for the connection: it is in no file, and its place means nothing.
func (h Header) Artificial() bool { return h.flags&replication.LOG_EVENT_ARTIFICIAL_F != 0 }

// ParseHeader splits an event into its header and its body, which still has the checksum, if there is one.
func ParseHeader(data []byte) (Header, []byte, error) {
	if len(data) < replication.EventHeaderSize {
		return Header{}, nil, ErrTruncated
	}
	le := binary.LittleEndian
	h := Header{
		Timestamp: le.Uint32(data), Kind: replication.EventType(data[4]), ServerID: le.Uint32(data[5:]),
		Size: le.Uint32(data[9:]), LogPos: le.Uint32(data[13:]), flags: le.Uint16(data[17:]),
	}
	if uint64(h.Size) != uint64(len(data)) {
		return h, nil, fmt.Errorf("%w: %s of %d bytes says that it has %d", ErrTruncated, h.Kind, len(data), h.Size)
	}
	return h, data[replication.EventHeaderSize:], nil
}

// TableMap is a TABLE_MAP_EVENT: the shape of the rows events that follow it.
type TableMap struct {
	id        uint64
	DB, Table string
	// Body is everything after id and flags: equal bodies are equal shapes.
	Body     []byte
	Types    []byte
	Metas    []uint16
	Nullable []byte
	optional []byte
	// Widths are those of the columns, unless BadWidth says why one of them is unknown: then rows cannot be told apart.
	Widths   []width
	BadWidth error
}

// Name returns the table as db.table.
func (m *TableMap) Name() string { return m.DB + "." + m.Table }

// TableMapHeaderSize is the size of the table id and the flags.
const TableMapHeaderSize = 8

// ParseTableMap reads a TABLE_MAP_EVENT. The result refers to body.
func ParseTableMap(body []byte) (*TableMap, error) {
	c := Cursor{Rest: body}
	m := &TableMap{id: c.Uint(6)}
	c.Take(2)
	m.Body = c.Rest
	m.DB = string(c.Take(int(c.Uint(1))))
	c.Take(1)
	m.Table = string(c.Take(int(c.Uint(1))))
	c.Take(1)
	m.Types = c.Take(c.Length())
	meta := Cursor{Rest: c.Take(c.Length())}
	m.Metas = make([]uint16, len(m.Types))
	for i, t := range m.Types {
		m.Metas[i] = readMeta(&meta, t)
	}
	m.Nullable = c.Take((len(m.Types) + 7) / 8)
	m.optional = c.Rest
	if c.Short || meta.Short {
		return nil, fmt.Errorf("table map of %s: %w", m.Name(), ErrTruncated)
	}
	m.SetWidths()
	return m, nil
}

// The types that go-mysql does not name.
const (
	TypeMariaBlobCompressed    = 140
	TypeMariaVarcharCompressed = 141
)

// readMeta reads the metadata of one column (MySQL source, Table_map_log_event, "Metadata Type"). Numbers of two parts keep
// the first part in the high byte.
func readMeta(c *Cursor, t byte) uint16 {
	switch t {
	case mysql.MYSQL_TYPE_STRING, mysql.MYSQL_TYPE_ENUM, mysql.MYSQL_TYPE_SET, mysql.MYSQL_TYPE_NEWDECIMAL:
		hi := c.Uint(1)
		return uint16(hi<<8 | c.Uint(1))
	case mysql.MYSQL_TYPE_VARCHAR, mysql.MYSQL_TYPE_VAR_STRING, mysql.MYSQL_TYPE_BIT, TypeMariaVarcharCompressed:
		return uint16(c.Uint(2))
	case mysql.MYSQL_TYPE_FLOAT, mysql.MYSQL_TYPE_DOUBLE, mysql.MYSQL_TYPE_BLOB, mysql.MYSQL_TYPE_TINY_BLOB,
		mysql.MYSQL_TYPE_MEDIUM_BLOB, mysql.MYSQL_TYPE_LONG_BLOB, mysql.MYSQL_TYPE_GEOMETRY, mysql.MYSQL_TYPE_JSON,
		mysql.MYSQL_TYPE_VECTOR, mysql.MYSQL_TYPE_TIME2, mysql.MYSQL_TYPE_DATETIME2, mysql.MYSQL_TYPE_TIMESTAMP2,
		TypeMariaBlobCompressed:
		return uint16(c.Uint(1))
	default:
		return 0
	}
}

// RealType returns what a column is: ENUM and SET travel as STRING, with the type in the high byte of their metadata, and a
// STRING longer than 255 bytes hides two bits of its length there (MySQL source, Field_string::do_save_field_metadata).
func RealType(t byte, meta uint16) (real byte, length uint16) {
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
	Insert rowsKind = iota
	Update
	Delete
)

// Rows is a rows event whose images are not decoded.
type Rows struct {
	Kind    rowsKind
	Partial bool // PARTIAL_UPDATE_ROWS_EVENT: after images may hold JSON differences
	TableID uint64
	Columns int
	// Before and after say which columns the images have; an event has one or both.
	Before, After   []byte
	NBefore, NAfter int // how many columns they have
	Images          []byte
}

// Blank reports an event of one row without bytes: with binlog_row_image=MINIMAL, an INSERT that gives no column a value. MySQL never
// puts two of them into an event. What ends a statement and has no row looks the same, and is of no table.
func (e *Rows) Blank() bool { return e.Kind == Insert && e.NAfter == 0 && len(e.Images) == 0 }

// RowsEventKind tells whether an event is a rows event, and of what kind and version.
func RowsEventKind(t replication.EventType) (kind rowsKind, version int, compressed, ok bool) {
	switch t {
	case replication.WRITE_ROWS_EVENTv1:
		return Insert, 1, false, true
	case replication.UPDATE_ROWS_EVENTv1:
		return Update, 1, false, true
	case replication.DELETE_ROWS_EVENTv1:
		return Delete, 1, false, true
	case replication.WRITE_ROWS_EVENTv2:
		return Insert, 2, false, true
	case replication.UPDATE_ROWS_EVENTv2, replication.PARTIAL_UPDATE_ROWS_EVENT:
		return Update, 2, false, true
	case replication.DELETE_ROWS_EVENTv2:
		return Delete, 2, false, true
	case replication.MARIADB_WRITE_ROWS_COMPRESSED_EVENT_V1:
		return Insert, 1, true, true
	case replication.MARIADB_UPDATE_ROWS_COMPRESSED_EVENT_V1:
		return Update, 1, true, true
	case replication.MARIADB_DELETE_ROWS_COMPRESSED_EVENT_V1:
		return Delete, 1, true, true
	default:
		return 0, 0, false, false
	}
}

// ParseRows reads the head of a rows event. The result refers to body, unless the event is compressed.
func ParseRows(t replication.EventType, body []byte) (*Rows, error) {
	kind, version, compressed, ok := RowsEventKind(t)
	if !ok {
		return nil, fmt.Errorf("%s is not a rows event", t)
	}
	c := Cursor{Rest: body}
	e := &Rows{Kind: kind, Partial: t == replication.PARTIAL_UPDATE_ROWS_EVENT, TableID: c.Uint(6)}
	c.Take(2)
	if version == 2 {
		c.Take(int(c.Uint(2)) - 2) // the length counts itself
	}
	columns := c.Lenenc()
	if columns > 4096 {
		return nil, fmt.Errorf("rows event of %d columns: %w", columns, ErrTruncated)
	}
	e.Columns = int(columns)
	first := c.Take((e.Columns + 7) / 8)
	switch kind {
	case Insert:
		e.After = first
	case Delete:
		e.Before = first
	case Update:
		e.Before, e.After = first, c.Take((e.Columns+7)/8)
	}
	if c.Short {
		return nil, fmt.Errorf("rows event: %w", ErrTruncated)
	}
	if e.Before != nil {
		e.NBefore = countSet(e.Before, e.Columns)
	}
	if e.After != nil {
		e.NAfter = countSet(e.After, e.Columns)
	}
	e.Images = c.Rest
	if compressed {
		var err error
		if e.Images, err = InflateMaria(c.Rest); err != nil {
			return nil, fmt.Errorf("compressed rows event: %w", err)
		}
	}
	return e, nil
}

// InflateMaria undoes MariaDB's compression of events and columns: a byte with the algorithm (0, zlib) and the width of the
// length, the length in big-endian order, the data (MariaDB source, binlog_buf_uncompress).
func InflateMaria(p []byte) ([]byte, error) {
	c := Cursor{Rest: p}
	head := c.Uint(1)
	var size uint64
	for _, b := range c.Take(int(head & 7)) {
		size = size<<8 | uint64(b)
	}
	if c.Short {
		return nil, ErrTruncated
	}
	if head&0x80 == 0 || head&0x70 != 0 || size > maxInflated {
		return nil, fmt.Errorf("unknown compression %#x of %d bytes", head, size)
	}
	z, err := zlib.NewReader(bytes.NewReader(c.Rest))
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

// IsSet reports bit i of a bitmap, least significant bit first.
func IsSet(bitmap []byte, i int) bool { return bitmap[i>>3]&(1<<(i&7)) != 0 }

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

// UintBE reads a big-endian integer of up to 8 bytes.
func UintBE(p []byte) (v uint64) {
	for _, b := range p {
		v = v<<8 | uint64(b)
	}
	return v
}

// CheckSum compares the CRC-32 at the end of a whole event and returns its body without it.
func CheckSum(data, body []byte) ([]byte, error) {
	n := len(body) - replication.BinlogChecksumLength
	if n < 0 {
		return nil, ErrTruncated
	}
	if crc32.ChecksumIEEE(data[:len(data)-replication.BinlogChecksumLength]) != binary.LittleEndian.Uint32(body[n:]) {
		return nil, errors.New("the checksum is wrong")
	}
	return body[:n], nil
}

// NextEvent reads one event; io.EOF means that there is none.
func NextEvent(r io.Reader) ([]byte, error) {
	var head [replication.EventHeaderSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, ErrTruncated
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
		return nil, ErrTruncated
	}
	return buf.Bytes(), nil
}
