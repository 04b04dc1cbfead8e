package wire

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrCleartext is the error of a server that asks for the password as it is, where everybody on the way could read it.
var ErrCleartext = errors.New("the server asks for the password as it is, over a connection without TLS: whoever is on the way could read it, " +
	"and it need not be the server: use TLS (tls.enabled, or sslmode=verify-full), or let the server use scram-sha-256, or set " +
	"allow_cleartext_password: true")

// maxBody bounds an answer that is no row of a table, against a length that is none.
const maxBody = 64 << 20

// ProtectPassword makes connections refuse what would give the password away.
func ProtectPassword(c *pgx.ConnConfig, cleartext bool) {
	c.MaxProtocolMessageBodyLen = maxBody
	if cleartext {
		return
	}
	c.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
		if _, encrypted := conn.(*tls.Conn); encrypted || conn.RemoteAddr().Network() == "unix" {
			return conn, nil
		}
		return &AuthConn{Conn: conn}, nil
	}
}

// AuthConn is a connection without TLS that ends when the server asks for the password as it is.
type AuthConn struct {
	net.Conn
	over  bool   // the password is no longer asked for
	left  uint32 // of the message that is being read, what is not looked at
	begin []byte // of the message: its type, its length, and the kind of authentication
}

// The messages of a server until it knows who we are ("Message Formats" in PostgreSQL's manual).
const (
	authMessage   = 'R'
	authOK        = 0
	authCleartext = 3
	authBegin     = 9 // bytes until the kind of authentication is known
)

// Read implements net.Conn.
func (c *AuthConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.over && !c.look(p[:n]) {
		return 0, ErrCleartext
	}
	return n, err
}

// look follows the messages, and reports false when one asks for the password.
func (c *AuthConn) look(b []byte) bool {
	for len(b) > 0 && !c.over {
		if c.left > 0 {
			n := min(c.left, uint32(min(len(b), 1<<30))) //nolint:gosec // bounded
			c.left -= n
			b = b[n:]
			continue
		}
		want := 5
		if len(c.begin) > 0 && c.begin[0] == authMessage {
			want = authBegin
		}
		n := min(want-len(c.begin), len(b))
		if len(c.begin) == 0 {
			n = 1
		}
		c.begin = append(c.begin, b[:n]...)
		b = b[n:]
		if len(c.begin) < want || len(c.begin) == 1 {
			continue
		}
		length := binary.BigEndian.Uint32(c.begin[1:])
		if want == authBegin {
			switch binary.BigEndian.Uint32(c.begin[5:]) {
			case authOK:
				c.over = true
			case authCleartext:
				return false
			}
		}
		c.left = length - min(length, uint32(want-1)) //nolint:gosec // small
		c.begin = c.begin[:0]
	}
	return true
}
