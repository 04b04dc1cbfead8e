// Package wire has the connections to a server: the handshake, questions, and the dump on which the binlog arrives.
package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/internal/coordinator"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// connectTimeout bounds dialling and the handshake.
const connectTimeout = 10 * time.Second

// Server says how to reach a server. It holds the password and is never printed.
type Server struct {
	network, Address string
	User, password   string
	TLS              *tls.Config
	// ReadTLS returns TLS with the certificates and authorities that are on disk now; nil for TLS as it is. It is called for each
	// connection.
	ReadTLS func() (*tls.Config, error)
	// ReadTimeout bounds the time that nothing arrives while something is expected.
	ReadTimeout time.Duration
	Guard       coordinator.Guard
	// PublicKeyFile has the server's RSA key, for passwords without TLS; empty for none.
	PublicKeyFile string
	// AllowClear lets the password travel as it is, or encrypted with any key, over a network without TLS.
	AllowClear bool
	// OnPlain is called when a connection leaves the machine without TLS; nil for nothing.
	OnPlain func()
}

// ParseDSN reads user:password@tcp(host:port)/ or user:password@unix(/path)/. A database after the slash means nothing: the
// binlog is the whole server's. Its errors do not show the password.
func ParseDSN(dsn string) (s Server, err error) {
	want := errors.New("dsn: want user:password@tcp(host:port)/ or user:password@unix(/path/to/socket)/")
	i := strings.LastIndexByte(dsn, '/')
	if i < 0 {
		return s, want
	}
	if strings.Contains(dsn[i:], "?") {
		return s, fmt.Errorf("%w; parameters are not taken: TLS is set by tls, timeouts by read_timeout", want)
	}
	account, place, ok := cutLast(dsn[:i], '@')
	if !ok {
		return s, want
	}
	s.User, s.password, _ = strings.Cut(account, ":")
	s.network, s.Address, ok = strings.Cut(place, "(")
	if !ok || !strings.HasSuffix(s.Address, ")") || s.User == "" {
		return s, want
	}
	s.Address = strings.TrimSuffix(s.Address, ")")
	switch s.network {
	case "tcp":
		if _, _, err := net.SplitHostPort(s.Address); err != nil {
			s.Address = net.JoinHostPort(strings.Trim(s.Address, "[]"), "3306")
		}
	case "unix":
	default:
		return s, want
	}
	if s.Address == "" {
		return s, want
	}
	return s, nil
}

// Like returns how to reach another server in the way in which s is reached: with the same TLS and time-outs.
func (s Server) Like(other Server) Server {
	s.network, s.Address, s.User, s.password = other.network, other.Address, other.User, other.password
	return s
}

func cutLast(s string, sep byte) (before, after string, found bool) {
	if i := strings.LastIndexByte(s, sep); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

// Conn is one connection. It closes itself when the context that it was opened with ends.
type Conn struct {
	raw  *watchedConn
	conn net.Conn // raw, or TLS over it
	in   *Packets
	stop func() bool
	srv  *Server
}

// watchedConn remembers whether a read has timed out: the driver wraps network errors as text.
type watchedConn struct {
	net.Conn
	timedOut atomic.Bool
}

func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		c.timedOut.Store(true)
	}
	return n, err
}

// Connect opens a connection and makes it speak UTF-8.
func (s *Server) Connect(ctx context.Context) (*Conn, error) {
	dialCtx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	c := &Conn{srv: s}
	if err := c.connect(dialCtx); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if dialCtx.Err() != nil {
			err = context.DeadlineExceeded
		}
		return nil, c.Classify(fmt.Errorf("connecting to %s as %s: %w", s.Address, s.User, err), fault.KindConnect)
	}
	c.stop = s.closeAfter(ctx, c.raw)
	// The session's SQL mode would change what quotes and backslashes mean.
	if _, err := c.Query(ctx, "SET NAMES utf8mb4, sql_mode = ''"); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// connect dials and logs in; it has closed what it opened when it fails.
func (c *Conn) connect(ctx context.Context) error {
	raw, err := new(net.Dialer).DialContext(ctx, c.srv.network, c.srv.Address)
	if err != nil {
		return err
	}
	c.raw = &watchedConn{Conn: raw}
	stop := c.srv.closeAfter(ctx, c.raw)
	err = c.handshake(ctx)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = raw.Close() // nothing is left to be told
	}
	return err
}

// use makes a connection the one that packets go over.
func (c *Conn) use(conn net.Conn) {
	c.conn = conn
	c.in = &Packets{conn: conn, deadline: conn.SetReadDeadline, timeout: c.srv.ReadTimeout}
}

// write sends a packet, as what follows the last one that was read.
func (c *Conn) write(payload []byte) error {
	if len(payload) >= mysql.MaxPayloadLen {
		return fmt.Errorf("a request of %d bytes", len(payload))
	}
	if t := c.srv.ReadTimeout; t > 0 {
		if err := c.conn.SetWriteDeadline(time.Now().Add(t)); err != nil {
			return err
		}
	}
	n := len(payload)
	p := append([]byte{byte(n), byte(n >> 8), byte(n >> 16), c.in.sequence}, payload...)
	c.in.sequence++
	_, err := c.conn.Write(p)
	return err
}

// command begins a new exchange.
func (c *Conn) command(payload []byte) error {
	c.in.sequence = 0
	return c.write(payload)
}

// reply reads a packet, which is not empty. An error packet is an error.
func (c *Conn) reply() ([]byte, error) {
	p, _, err := c.in.Next()
	switch {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("the server has closed the connection: %w", err)
	case err != nil:
		return nil, err
	case len(p) == 0:
		return nil, errShort
	case p[0] == mysql.ERR_HEADER:
		return nil, parseError(p)
	}
	return p, nil
}

// closeAfter closes a connection when ctx ends, unless the function that it returns was called before.
func (s *Server) closeAfter(ctx context.Context, raw *watchedConn) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		_ = s.Guard.Do("connection", raw.Close) // whoever reads from it sees that it is closed
	})
}

// Packets reads what the server sends of the binlog; nothing else reads from the connection then.
func (c *Conn) Packets() *Packets { return c.in }

// HandleErrorPacket returns the error that a packet is.
func (c *Conn) HandleErrorPacket(p []byte) error { return parseError(p) }

// Close closes the connection, without waiting for the server.
func (c *Conn) Close() {
	c.stop()
	_ = c.conn.Close() // nothing is left to be told
}

// Query runs a statement and returns its rows as text, in which NULL is empty. A server's complaint becomes an error with a kind; the
// connection stays usable then.
func (c *Conn) Query(ctx context.Context, sql string) ([][]string, error) {
	err := c.command(append([]byte{mysql.COM_QUERY}, sql...))
	var rows [][]string
	if err == nil {
		rows, err = c.result()
	}
	if err == nil {
		return rows, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, c.Classify(fmt.Errorf("running %s on %s: %w", sql, c.srv.Address, err), fault.KindConnect)
}

// Classify marks an error with its kind; kind is that of an error that the server did not send.
func (c *Conn) Classify(err error, kind fault.Kind) error {
	var my *mysql.MyError
	var op *net.OpError
	if k := fault.KindOf(err); k == fault.KindAuth || k == fault.KindProtocol {
		kind = k
	}
	switch {
	case errors.As(err, &my):
		kind = kindOfCode(my.Code)
	case c.raw != nil && c.raw.timedOut.Load(), errors.Is(err, context.DeadlineExceeded):
		kind = fault.KindTimeout
	case errors.As(err, &op):
		kind = fault.KindConnect
	}
	return fault.WithKind(kind, err)
}

// IsTorn reports that a server has refused to send more of its binlog since a file ends inside an event.
func IsTorn(err error) bool {
	var my *mysql.MyError
	return errors.As(err, &my) && my.Code == mysql.ER_MASTER_FATAL_ERROR_READING_BINLOG &&
		strings.Contains(my.Message, "truncated in the middle of event")
}

// IsServerError reports whether a server answered with one of the codes.
func IsServerError(err error, codes ...uint16) bool {
	var my *mysql.MyError
	if !errors.As(err, &my) {
		return false
	}
	return slices.Contains(codes, my.Code)
}

func kindOfCode(code uint16) fault.Kind {
	switch code {
	case mysql.ER_ACCESS_DENIED_ERROR, mysql.ER_NOT_SUPPORTED_AUTH_MODE, 1698, 1862, 3118, 3159, 4151:
		return fault.KindAuth
	case mysql.ER_DBACCESS_DENIED_ERROR, mysql.ER_TABLEACCESS_DENIED_ERROR, mysql.ER_COLUMNACCESS_DENIED_ERROR,
		mysql.ER_SPECIFIC_ACCESS_DENIED_ERROR:
		return fault.KindPermission
	case mysql.ER_CON_COUNT_ERROR, mysql.ER_SERVER_SHUTDOWN, mysql.ER_HOST_NOT_PRIVILEGED, mysql.ER_HOST_IS_BLOCKED, 1927:
		return fault.KindConnect
	default:
		return fault.KindOther
	}
}
