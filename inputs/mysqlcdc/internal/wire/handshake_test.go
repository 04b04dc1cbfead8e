package wire

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/fault"
)

const hunted = "hunter2-sesame"

// scriptedServer is the other end of a connection: it sends what a test says, and keeps what it gets.
type scriptedServer struct {
	t    *testing.T
	conn net.Conn
	in   *Packets
	got  bytes.Buffer
}

// send sends a payload as the next packet.
func (s *scriptedServer) send(p ...byte) {
	n := len(p)
	_, _ = s.conn.Write(append([]byte{byte(n), byte(n >> 8), byte(n >> 16), s.in.sequence}, p...)) // a client that has gone sees nothing
	s.in.sequence++
}

// get reads a packet; nil when the client has gone.
func (s *scriptedServer) get() []byte {
	p, _, err := s.in.Next()
	if err != nil {
		return nil
	}
	s.got.Write(p)
	return p
}

func (s *scriptedServer) next() { s.in.sequence = 0 }

var seed20 = []byte("0123456789abcdefghij") //nolint:gochecknoglobals // a constant

// greet sends the greeting of a server with a method.
func (s *scriptedServer) greet(method string, flags uint32) {
	flags |= capabilities
	p := append([]byte{10}, "9.7.0\x00"...)
	p = append(append(p, 1, 0, 0, 0), seed20[:8]...)
	p = append(p, 0, byte(flags), byte(flags>>8), 45, 2, 0, byte(flags>>16), byte(flags>>24), 21)
	p = append(append(p, make([]byte, 10)...), seed20[8:]...)
	s.send(append(append(append(p, 0), method...), 0)...)
}

func (s *scriptedServer) switchTo(method string) {
	s.send(append(append(append([]byte{0xfe}, method...), 0), append(seed20, 0)...)...)
}

// farConn is a connection that seems to come over a network.
type farConn struct{ net.Conn }

func (farConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 3306} }

type nearConn struct{ net.Conn }

func (nearConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 3306} }

// meet runs a handshake, and do if it succeeds, against a script.
func meet(t *testing.T, srv *Server, near bool, script func(s *scriptedServer), do func(c *Conn) error) (sent string, err error) {
	t.Helper()
	client, server := net.Pipe()
	s := &scriptedServer{t: t, conn: server, in: &Packets{conn: server, deadline: server.SetReadDeadline}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer server.Close()
		script(s)
	}()
	srv.User, srv.password = "cdc", hunted
	if srv.network == "" {
		srv.network, srv.Address = "tcp", "db.example:3306"
	}
	var raw net.Conn = farConn{client}
	if near {
		raw = nearConn{client}
	}
	c := &Conn{srv: srv, raw: &watchedConn{Conn: raw}}
	if err = c.handshake(t.Context()); err == nil && do != nil {
		err = do(c)
	}
	_ = client.Close()
	<-done
	return s.got.String(), err
}

func ended(s *scriptedServer) { s.get() }

// TestPasswordIsNotGivenAway: a server, or whoever stands in for it, asks for the password in every way.
func TestPasswordIsNotGivenAway(t *testing.T) {
	for name, c := range map[string]struct {
		method string
		near   bool
		want   string
	}{
		"clear":               {mysql.AUTH_CLEAR_PASSWORD, false, "the server asks for the password in clear text (mysql_clear_password), and the connection has no TLS: it was not sent"},
		"clear, near":         {mysql.AUTH_CLEAR_PASSWORD, true, "the connection has no TLS: it was not sent"},
		"caching_sha2":        {mysql.AUTH_CACHING_SHA2_PASSWORD, false, "the method caching_sha2_password sends the password encrypted with a key that comes from the server"},
		"sha256":              {mysql.AUTH_SHA256_PASSWORD, false, "the method sha256_password sends the password encrypted"},
		"parsec, with a cost": {"parsec", true, `the method "parsec", which is not supported`},
		"dialog":              {"dialog", true, `the method "dialog", which is not supported`},
	} {
		t.Run(name, func(t *testing.T) {
			for _, first := range []string{c.method, mysql.AUTH_NATIVE_PASSWORD, "anything"} {
				sent, err := meet(t, &Server{}, c.near, func(s *scriptedServer) {
					s.greet(first, 0)
					s.get()
					s.switchTo(c.method)
					ended(s)
				}, nil)
				require.ErrorContains(t, err, c.want)
				require.Equal(t, fault.KindAuth, fault.KindOf(err))
				require.NotContains(t, sent, hunted)
				require.NotContains(t, err.Error(), hunted)
			}
		})
	}
}

// TestAllowClear: who says so by name sends it.
func TestAllowClear(t *testing.T) {
	sent, err := meet(t, &Server{AllowClear: true}, false, func(s *scriptedServer) {
		s.greet(mysql.AUTH_NATIVE_PASSWORD, 0)
		s.get()
		s.switchTo(mysql.AUTH_CLEAR_PASSWORD)
		s.get()
		s.send(0, 0, 0, 2, 0, 0, 0)
	}, nil)
	require.NoError(t, err)
	require.Contains(t, sent, hunted+"\x00")
}

// TestPlainIsTold: a connection that others can read is told of.
func TestPlainIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		srv  Server
		near bool
		want int
	}{
		"over a network":  {Server{}, false, 1},
		"on this machine": {Server{}, true, 0},
		"on a socket":     {Server{network: "unix", Address: "/run/s"}, false, 0},
		"with TLS":        {Server{TLS: &tls.Config{MinVersion: tls.VersionTLS12}}, false, 0},
	} {
		told := 0
		c.srv.OnPlain = func() { told++ }
		_, _ = meet(t, &c.srv, c.near, func(s *scriptedServer) {
			s.greet(mysql.AUTH_NATIVE_PASSWORD, 0)
			s.get()
			s.send(0, 0, 0, 2, 0, 0, 0)
		}, nil)
		require.Equal(t, c.want, told, name)
	}
}

func newKey(t *testing.T) (*rsa.PrivateKey, []byte) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	require.NoError(t, err)
	return key, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// opened is the password that a server reads with its key.
func opened(t *testing.T, key *rsa.PrivateKey, p []byte) string {
	t.Helper()
	plain, err := rsa.DecryptOAEP(sha1.New(), nil, key, p, nil)
	require.NoError(t, err)
	for i := range plain {
		plain[i] ^= seed20[i%len(seed20)]
	}
	return strings.TrimSuffix(string(plain), "\x00")
}

func TestSHA2Key(t *testing.T) {
	key, text := newKey(t)
	file := filepath.Join(t.TempDir(), "public_key.pem")
	require.NoError(t, os.WriteFile(file, text, 0o600))

	// Far away the key is the configured one, and nobody is asked for another.
	var got []byte
	_, err := meet(t, &Server{PublicKeyFile: file}, false, func(s *scriptedServer) {
		s.greet(mysql.AUTH_CACHING_SHA2_PASSWORD, 0)
		s.get()
		s.send(mysql.MORE_DATE_HEADER, sha2Full)
		got = s.get()
		s.send(0, 0, 0, 2, 0, 0, 0)
	}, nil)
	require.NoError(t, err)
	require.Equal(t, hunted, opened(t, key, got))

	// On this machine the server is asked.
	for _, method := range []string{mysql.AUTH_CACHING_SHA2_PASSWORD, mysql.AUTH_SHA256_PASSWORD} {
		_, err = meet(t, &Server{}, true, func(s *scriptedServer) {
			s.greet(mysql.AUTH_NATIVE_PASSWORD, 0)
			s.get()
			s.switchTo(method)
			request := s.get()
			if method == mysql.AUTH_CACHING_SHA2_PASSWORD {
				s.send(mysql.MORE_DATE_HEADER, sha2Full)
				request = s.get()
			}
			if len(request) == 1 {
				s.send(append([]byte{mysql.MORE_DATE_HEADER}, text...)...)
				got = s.get()
			}
			s.send(0, 0, 0, 2, 0, 0, 0)
		}, nil)
		require.NoError(t, err, method)
		require.Equal(t, hunted, opened(t, key, got), method)
	}

	// The fast way needs no key.
	_, err = meet(t, &Server{PublicKeyFile: "not there"}, false, func(s *scriptedServer) {
		s.greet(mysql.AUTH_CACHING_SHA2_PASSWORD, 0)
		got = s.get()
		s.send(mysql.MORE_DATE_HEADER, sha2Fast)
		s.send(0, 0, 0, 2, 0, 0, 0)
	}, nil)
	require.NoError(t, err)
	require.Contains(t, string(got), string(mysql.CalcCachingSha2Password(seed20, []byte(hunted))))

	_, err = meet(t, &Server{PublicKeyFile: "not there"}, false, func(s *scriptedServer) {
		s.greet(mysql.AUTH_CACHING_SHA2_PASSWORD, 0)
		s.get()
		s.send(mysql.MORE_DATE_HEADER, sha2Full)
		ended(s)
	}, nil)
	require.ErrorContains(t, err, "server_public_key_file: open not there")
}

// TestClearOverTLS: where nobody can read along, the method of PAM and LDAP is served.
func TestClearOverTLS(t *testing.T) {
	key, _ := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"db.example"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	for _, trusted := range []bool{true, false} {
		srv := &Server{TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
		if !trusted {
			srv.TLS.RootCAs = x509.NewCertPool()
		}
		var password []byte
		_, err = meet(t, srv, false, func(s *scriptedServer) {
			s.greet(mysql.AUTH_CACHING_SHA2_PASSWORD, mysql.CLIENT_SSL)
			s.get()
			secure := tls.Server(s.conn, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12})
			s.conn, s.in.conn, s.in.slab, s.in.start = secure, secure, nil, 0
			s.in.deadline = secure.SetReadDeadline
			s.get()
			s.switchTo(mysql.AUTH_CLEAR_PASSWORD)
			password = s.get()
			s.send(0, 0, 0, 2, 0, 0, 0)
		}, nil)
		if !trusted {
			require.ErrorContains(t, err, "certificate")
			require.Empty(t, password)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, hunted+"\x00", string(password))
	}
	sent, err := meet(t, &Server{TLS: &tls.Config{MinVersion: tls.VersionTLS12}}, false, func(s *scriptedServer) {
		s.greet(mysql.AUTH_NATIVE_PASSWORD, 0)
		ended(s)
	}, nil)
	require.ErrorContains(t, err, "the server does not offer TLS, which tls asks for")
	require.Empty(t, sent)
}

// TestBounds: what a server announces is not believed before it is there.
func TestBounds(t *testing.T) {
	column := append([]byte{3}, "def"...)
	eof := []byte{0xfe, 0, 0, 2, 0}
	for name, c := range map[string]struct {
		replies [][]byte
		want    string
	}{
		"2^40 columns":      {[][]byte{{0xfe, 0, 0, 0, 0, 0, 1, 0, 0}}, "malformed"},
		"4097 columns":      {[][]byte{{0xfc, 1, 16}}, "malformed"},
		"a file of ours":    {[][]byte{append([]byte{0xfb}, "/etc/passwd"...)}, "malformed"},
		"no end of columns": {[][]byte{{1}, column, column}, "malformed"},
		"a cell of 2^40":    {[][]byte{{1}, column, eof, {0xfe, 0, 0, 0, 0, 0, 1, 0, 0, 'x'}}, "malformed"},
		"too few cells":     {[][]byte{{2}, column, column, eof, {1, 'x'}}, "malformed"},
		"too many cells":    {[][]byte{{1}, column, eof, {1, 'x', 1, 'y'}}, "malformed"},
		"an empty packet":   {[][]byte{{1}, {}}, "too short"},
		"half an error":     {[][]byte{{0xff, 1}}, "too short"},
		"an error":          {[][]byte{append([]byte{0xff, 0x28, 0x04}, "#42000no such thing"...)}, "ERROR 1064 (42000): no such thing"},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := meet(t, &Server{}, true, func(s *scriptedServer) {
				s.greet(mysql.AUTH_NATIVE_PASSWORD, 0)
				s.get()
				s.send(0, 0, 0, 2, 0, 0, 0)
				s.next()
				s.get()
				for _, r := range c.replies {
					s.send(r...)
				}
			}, func(c *Conn) error {
				_, err := c.Query(t.Context(), "SELECT 1")
				return err
			})
			require.ErrorContains(t, err, c.want)
			runtime.ReadMemStats(&after)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(8<<20))
		})
	}
	t.Run("rows", func(t *testing.T) {
		var rows [][]string
		_, err := meet(t, &Server{}, true, func(s *scriptedServer) {
			s.greet(mysql.AUTH_NATIVE_PASSWORD, 0)
			s.get()
			s.send(0, 0, 0, 2, 0, 0, 0)
			s.next()
			s.get()
			for _, r := range [][]byte{{2}, column, column, eof, {1, 'x', 0xfb}, {0, 2, 'y', 'z'}, eof} {
				s.send(r...)
			}
		}, func(c *Conn) (err error) {
			rows, err = c.Query(t.Context(), "SELECT 1")
			return err
		})
		require.NoError(t, err)
		require.Equal(t, [][]string{{"x", ""}, {"", "yz"}}, rows)
	})
}

// TestAnnouncedPackets: room is made for bytes that are there, not for those that are announced.
func TestAnnouncedPackets(t *testing.T) {
	p := Packets{conn: bytes.NewReader([]byte{0xff, 0xff, 0xff, 0, 'x', 'y'})}
	_, _, err := p.Next()
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.LessOrEqual(t, cap(p.slab), 2*maxSlab)

	p = Packets{conn: bytes.NewReader(frame(0, make([]byte, maxHandshake+1))), limit: maxHandshake}
	_, _, err = p.Next()
	require.EqualError(t, err, "a packet of more than 65536 bytes")
	p = Packets{conn: bytes.NewReader(frame(0, make([]byte, mysql.MaxPayloadLen+10))), limit: mysql.MaxPayloadLen + 9}
	_, _, err = p.Next()
	require.EqualError(t, err, "a packet of more than 16777224 bytes")
}

// FuzzServer lets a server say anything: it gets no password, and nothing worse than an error happens.
func FuzzServer(f *testing.F) {
	greeting := func(method string) []byte {
		client, server := net.Pipe()
		go func() {
			s := &scriptedServer{conn: server, in: &Packets{}}
			s.greet(method, 0)
			_ = server.Close()
		}()
		data, _ := io.ReadAll(client)
		return data
	}
	native := greeting(mysql.AUTH_NATIVE_PASSWORD)
	f.Add(native)
	f.Add(append(bytes.Clone(native), append([]byte{7, 0, 0, 2}, 0, 0, 0, 2, 0, 0, 0)...))
	f.Add(append(bytes.Clone(native), append([]byte{23, 0, 0, 2, 0xfe}, "mysql_clear_password\x00x"...)...))
	f.Add(append(bytes.Clone(native), append([]byte{44, 0, 0, 2, 0xfe}, "caching_sha2_password\x000123456789abcdefghij\x00"...)...))
	f.Add(append(greeting(mysql.AUTH_CACHING_SHA2_PASSWORD), 2, 0, 0, 2, 1, 4))
	f.Fuzz(func(t *testing.T, data []byte) {
		out := &sink{in: bytes.NewReader(data)}
		c := &Conn{srv: &Server{network: "tcp", User: "cdc", password: hunted}, raw: &watchedConn{Conn: out}, stop: func() bool { return true }}
		if c.handshake(context.Background()) == nil {
			_, _ = c.Query(context.Background(), "SELECT 1")
		}
		if bytes.Contains(out.out.Bytes(), []byte(hunted)) {
			t.Fatal("the password was sent")
		}
	})
}

// sink is a connection that has all its input.
type sink struct {
	farConn
	in  io.Reader
	out bytes.Buffer
}

func (s *sink) Read(p []byte) (int, error)     { return s.in.Read(p) }
func (s *sink) Write(p []byte) (int, error)    { return s.out.Write(p) }
func (*sink) Close() error                     { return nil }
func (*sink) SetReadDeadline(time.Time) error  { return nil }
func (*sink) SetWriteDeadline(time.Time) error { return nil }
