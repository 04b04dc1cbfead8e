// Package wire has the connections to a server: the handshake, questions, and the dump on which the binlog arrives.
package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/internal/coordinator"
)

// connectTimeout bounds dialling and the handshake.
const connectTimeout = 10 * time.Second

// Server says how to reach a server. It holds the password and is never printed.
type Server struct {
	network, Address string
	User, password   string
	TLS              *tls.Config
	// ReadTimeout bounds the time that nothing arrives while something is expected.
	ReadTimeout time.Duration
	Guard       coordinator.Guard
}

// ParseDSN reads user:password@tcp(host:port)/ or user:password@unix(/path)/. A database behind the slash means nothing: the
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

func cutLast(s string, sep byte) (before, after string, found bool) {
	if i := strings.LastIndexByte(s, sep); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

// Conn is one connection. It closes itself when the context that it was opened with ends.
type Conn struct {
	*client.Conn
	raw  *watchedConn
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
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		raw, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c.raw = &watchedConn{Conn: raw}
		return c.raw, nil
	}
	var stopDial func() bool
	var err error
	c.Conn, err = client.ConnectWithDialer(dialCtx, s.network, s.Address, s.User, s.password, "", dial, func(cc *client.Conn) error {
		raw := c.raw
		stopDial = s.closeAfter(dialCtx, raw)
		cc.ReadTimeout, cc.WriteTimeout = s.ReadTimeout, s.ReadTimeout
		cc.SetAttributes(map[string]string{"program_name": "deltaforge"})
		if s.TLS != nil {
			t := s.TLS.Clone()
			if host, _, err := net.SplitHostPort(s.Address); err == nil && t.ServerName == "" {
				t.ServerName = host
			}
			cc.SetTLSConfig(t)
		}
		return nil
	})
	inTime := stopDial == nil || stopDial()
	if err == nil && !inTime {
		c.Conn.Close()
		err = context.Cause(dialCtx)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if dialCtx.Err() != nil {
			err = context.DeadlineExceeded
		}
		return nil, c.Classify(fmt.Errorf("connecting to %s as %s: %w", s.Address, s.User, err), coordinator.KindConnect)
	}
	c.stop = s.closeAfter(ctx, c.raw)
	// The session's SQL mode would change what quotes and backslashes mean.
	if _, err := c.Query(ctx, "SET NAMES utf8mb4, sql_mode = ''"); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// closeAfter closes a connection when ctx ends, unless the function that it returns was called before.
func (s *Server) closeAfter(ctx context.Context, raw *watchedConn) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		_ = s.Guard.Do("connection", raw.Close) // whoever reads from it sees that it is closed
	})
}

// Packets takes over what the server sends from now on; only packets reads from the connection then.
func (c *Conn) Packets() *Packets {
	return &Packets{conn: c.Conn.Conn, deadline: c.SetReadDeadline, timeout: c.srv.ReadTimeout, sequence: c.Sequence}
}

// Close closes the connection, without waiting for the server.
func (c *Conn) Close() {
	c.stop()
	_ = c.Conn.Close() // nothing is left to be told
}

// Query runs a statement. A server's complaint becomes an error with a kind; the connection stays usable then.
func (c *Conn) Query(ctx context.Context, sql string) (*mysql.Result, error) {
	r, err := c.Execute(sql)
	if err == nil {
		return r, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, c.Classify(fmt.Errorf("running %s on %s: %w", sql, c.srv.Address, err), coordinator.KindConnect)
}

// Classify marks an error with its kind; kind is that of an error that the server did not send.
func (c *Conn) Classify(err error, kind coordinator.Kind) error {
	var my *mysql.MyError
	var op *net.OpError
	switch {
	case errors.As(err, &my):
		kind = kindOfCode(my.Code)
	case c.raw != nil && c.raw.timedOut.Load(), errors.Is(err, context.DeadlineExceeded):
		kind = coordinator.KindTimeout
	case errors.As(err, &op):
		kind = coordinator.KindConnect
	}
	return coordinator.WithKind(kind, err)
}

// IsServerError reports whether a server answered with one of the codes.
func IsServerError(err error, codes ...uint16) bool {
	var my *mysql.MyError
	if !errors.As(err, &my) {
		return false
	}
	return slices.Contains(codes, my.Code)
}

func kindOfCode(code uint16) coordinator.Kind {
	switch code {
	case mysql.ER_ACCESS_DENIED_ERROR, mysql.ER_NOT_SUPPORTED_AUTH_MODE, 1698, 1862, 3118, 3159, 4151:
		return coordinator.KindAuth
	case mysql.ER_DBACCESS_DENIED_ERROR, mysql.ER_TABLEACCESS_DENIED_ERROR, mysql.ER_COLUMNACCESS_DENIED_ERROR,
		mysql.ER_SPECIFIC_ACCESS_DENIED_ERROR:
		return coordinator.KindPermission
	case mysql.ER_CON_COUNT_ERROR, mysql.ER_SERVER_SHUTDOWN, mysql.ER_HOST_NOT_PRIVILEGED, mysql.ER_HOST_IS_BLOCKED, 1927:
		return coordinator.KindConnect
	default:
		return coordinator.KindOther
	}
}

// Cells returns a result as text; NULL is an empty string.
func Cells(r *mysql.Result) [][]string {
	defer r.Close()
	if r.Resultset == nil {
		return nil
	}
	rows := make([][]string, r.RowNumber())
	for i := range rows {
		row := make([]string, r.ColumnNumber())
		for j := range row {
			// GetString fails only for types that text results do not have.
			s, _ := r.GetString(i, j)
			row[j] = strings.Clone(s) // the result's memory is reused
		}
		rows[i] = row
	}
	return rows
}
