package postgrescdc

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/wire"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// rogue is a server that sends an answer to each startup message, in pieces, and hands on what comes then.
func rogue(t *testing.T, piece int, answer []byte) (address string, got chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	got = make(chan string, 10)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(waitFor))
			var size [4]byte
			if _, err := io.ReadFull(conn, size[:]); err == nil {
				_, _ = io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(size[:]))-4)
			}
			for b := answer; len(b) > 0; b = b[min(piece, len(b)):] {
				_, _ = conn.Write(b[:min(piece, len(b))])
			}
			b := make([]byte, 100)
			n, _ := conn.Read(b)
			got <- string(b[:n])
			_ = conn.Close()
		}
	}()
	return l.Addr().String(), got
}

// TestCleartextPassword has a server that asks for the password as it is.
func TestCleartextPassword(t *testing.T) {
	notice := "N\x00\x00\x00\x09MHi\x00\x00" // before the question there may be something else
	ask := []byte(notice + "R\x00\x00\x00\x08\x00\x00\x00\x03")
	for _, piece := range []int{1, 3, 7, 100} {
		address, got := rogue(t, piece, ask)
		dsn := "postgres://u:hunter2-sesame@" + address + "/db?sslmode=disable"
		r, _, err := makeSource("x", dsn, "")
		require.NoError(t, err)
		err = r.Run(t.Context(), checkpoint.Token{}, nil)
		require.ErrorIs(t, err, wire.ErrCleartext)
		require.Equal(t, fault.KindAuth, fault.KindOf(err))
		require.ErrorContains(t, err, "allow_cleartext_password: true")
		require.Empty(t, <-got)

		address, got = rogue(t, piece, ask)
		dsn = "postgres://u:hunter2-sesame@" + address + "/db?sslmode=disable"
		r, _, err = makeSource("x", dsn, "allow_cleartext_password: true")
		require.NoError(t, err)
		require.Error(t, r.Run(t.Context(), checkpoint.Token{}, nil))
		require.Equal(t, "p\x00\x00\x00\x13hunter2-sesame\x00", <-got)
	}
}

// TestLengthWithoutBytes has a server that says how long a message is and sends nothing of it.
func TestLengthWithoutBytes(t *testing.T) {
	address, _ := rogue(t, 100, []byte("R\x7f\xff\xff\xff"))
	r, _, err := makeSource("x", "postgres://u:hunter2-sesame@"+address+"/db?sslmode=disable", "allow_cleartext_password: true")
	require.NoError(t, err)
	require.Error(t, r.Run(t.Context(), checkpoint.Token{}, nil))
}

// address is a connection to somewhere.
type address struct {
	net.Conn
	at net.Addr
}

func (a address) RemoteAddr() net.Addr { return a.at }

// TestPlainWarning is told once, of a password that leaves the machine without TLS.
func TestPlainWarning(t *testing.T) {
	r, log, err := makeSource("x", "postgres://u:p@h/db", "")
	require.NoError(t, err)
	r.warnPlain(address{at: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}})
	r.warnPlain(address{at: &net.UnixAddr{Net: "unix"}})
	require.Empty(t, log.all())
	far := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 5432}
	for range 2 {
		r.warnPlain(&wire.AuthConn{Conn: address{at: far}})
	}
	require.Equal(t, "warn the connection to 10.0.0.1:5432 has no TLS: everybody on the way can read the rows, and attack the password: set tls.enabled, or "+
		"sslmode=verify-full in the dsn", log.all())
	r, log, err = makeSource("x", "postgres://u@h/db", "")
	require.NoError(t, err)
	r.warnPlain(address{at: far})
	require.Empty(t, log.all())
}
