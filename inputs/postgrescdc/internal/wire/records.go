package wire

import (
	"encoding/binary"
	"net"
)

// RecordConn is a connection below TLS. The server encrypts each row by itself, so a read above TLS returns one row; here
// is known whether more have arrived. It hands out one record at a time, because what the TLS layer buffers cannot be
// seen. Until the client asks for TLS, and if it never does, it passes everything through.
type RecordConn struct {
	net.Conn

	asked  bool // the first write has been seen
	framed bool // the connection is encrypted
	left   int  // of the record that is being handed out
	buf    []byte
	r, w   int
}

// NewRecordConn returns the connection below a TLS layer that is to come.
func NewRecordConn(conn net.Conn) *RecordConn { return &RecordConn{Conn: conn} }

const (
	recordHeader = 5
	// sslRequest is the code of the message with which a client asks for TLS.
	sslRequest = 80877103
	// tlsHandshake is the first byte of a client that begins with TLS at once.
	tlsHandshake = 0x16
)

// Write implements net.Conn.
func (c *RecordConn) Write(p []byte) (int, error) {
	if !c.asked {
		c.asked = true
		switch {
		case len(p) == 8 && binary.BigEndian.Uint32(p[4:]) == sslRequest:
			c.framed, c.left = true, 1 // the server's answer is one byte
		case len(p) > 0 && p[0] == tlsHandshake:
			c.framed = true
		}
	}
	return c.Conn.Write(p)
}

// Read implements net.Conn.
func (c *RecordConn) Read(p []byte) (int, error) {
	if !c.framed || len(p) == 0 {
		return c.Conn.Read(p)
	}
	for c.left == 0 {
		if n := c.record(); n > 0 {
			c.left = n
		} else if err := c.fill(); err != nil {
			return 0, err
		}
	}
	if c.r == c.w {
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p[:min(len(p), c.left)], c.buf[c.r:c.w])
	c.r += n
	c.left -= n
	return n, nil
}

// record returns the size of the record that begins at c.r, or 0 when its header has not arrived.
func (c *RecordConn) record() int {
	if c.w-c.r < recordHeader {
		return 0
	}
	return recordHeader + int(binary.BigEndian.Uint16(c.buf[c.r+3:]))
}

// more reports whether the next read above TLS finds a whole record.
func (c *RecordConn) more() bool {
	n := c.record()
	return c.left == 0 && n > 0 && c.w-c.r >= n
}

// fill reads once.
func (c *RecordConn) fill() error {
	if c.buf == nil {
		c.buf = make([]byte, ChunkSize)
	}
	if c.r > 0 {
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	n, err := c.Conn.Read(c.buf[c.w:])
	c.w += n
	if n > 0 {
		return nil
	}
	return err
}
