package wire

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
)

// How much memory packets are read into at once. It begins small, for sources where little happens, and doubles while reads
// fill what is left of it.
const (
	minSlab = 16 << 10
	maxSlab = 256 << 10
)

// maxPacket bounds a packet: the greatest max_allowed_packet, which bounds events, and what is around one.
const maxPacket = 1<<30 + 1<<10

// packetHeaderSize is three bytes of length and one of sequence (MySQL internals, "Packets").
const packetHeaderSize = 4

// Packets reads the packets of a binlog stream into the memory that their rows are decoded from and that values point into: the
// driver would copy each packet three times. Memory that was handed out is never written again.
type Packets struct {
	conn io.Reader
	// deadline is called before each read.
	deadline func(time.Time) error
	timeout  time.Duration
	sequence uint8
	// limit bounds a packet; 0 is maxPacket.
	limit int

	// slab[start:] has been read and not handed out; after it, up to the capacity, there is room.
	slab   []byte
	start  int
	readAt time.Time // of the last read
}

// Next returns the next packet and when its last byte was read. It blocks until there is one.
func (p *Packets) Next() ([]byte, time.Time, error) {
	size, err := p.header()
	if err != nil {
		return nil, p.readAt, err
	}
	if size > p.max() {
		return nil, p.readAt, fmt.Errorf("a packet of more than %d bytes", p.max())
	}
	if err := p.need(size); err != nil {
		return nil, p.readAt, err
	}
	packet := p.take(size)
	for size == mysql.MaxPayloadLen { // it goes on in another packet
		if size, err = p.header(); err != nil {
			return nil, p.readAt, err
		}
		if len(packet)+size > p.max() {
			return nil, p.readAt, fmt.Errorf("a packet of more than %d bytes", p.max())
		}
		if err := p.need(size); err != nil {
			return nil, p.readAt, err
		}
		packet = append(packet, p.take(size)...)
	}
	return packet, p.readAt, nil
}

func (p *Packets) max() int {
	if p.limit > 0 {
		return p.limit
	}
	return maxPacket
}

func (p *Packets) header() (size int, err error) {
	if err := p.need(packetHeaderSize); err != nil {
		return 0, err
	}
	h := p.take(packetHeaderSize)
	if h[3] != p.sequence {
		return 0, fmt.Errorf("packet %d came in place of packet %d", h[3], p.sequence)
	}
	p.sequence++
	return int(h[0]) | int(h[1])<<8 | int(h[2])<<16, nil
}

// take hands out n bytes that are there.
func (p *Packets) take(n int) []byte {
	b := p.slab[p.start : p.start+n : p.start+n]
	p.start += n
	return b
}

// need reads until n bytes are there. Room is made as they come, not as they are announced.
func (p *Packets) need(n int) error {
	for moved := false; len(p.slab)-p.start < n; {
		if cap(p.slab)-p.start < n && (!moved || len(p.slab) == cap(p.slab)) {
			p.grow(n)
			moved = true
		}
		if p.timeout > 0 { // for each read: a large packet may take longer
			if err := p.deadline(time.Now().Add(p.timeout)); err != nil {
				return err
			}
		}
		read, err := p.conn.Read(p.slab[len(p.slab):cap(p.slab)])
		p.slab = p.slab[:len(p.slab)+read]
		p.readAt = time.Now()
		if err != nil && len(p.slab)-p.start < n {
			if errors.Is(err, io.EOF) && len(p.slab) > p.start {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// grow makes room for n bytes, or for as many as are there already.
func (p *Packets) grow(n int) {
	rest := p.slab[p.start:]
	size := minSlab
	if p.slab != nil {
		size = min(2*cap(p.slab), maxSlab)
	}
	p.slab = append(make([]byte, 0, max(size, min(n, max(2*len(rest), maxSlab)))), rest...)
	p.start = 0
}
