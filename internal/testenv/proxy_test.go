package testenv

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// patience bounds every wait of a test for what has to come.
const patience = time.Minute

// echo is a server that sends back what it gets.
func echo(t *testing.T) (addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test's listener
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return listener.Addr().String()
}

func dial(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", p.Addr(), patience) //nolint:noctx // has a timeout
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// roundTrip sends data and returns what comes back within the time.
func roundTrip(conn net.Conn, data []byte, within time.Duration) ([]byte, error) {
	if err := conn.SetDeadline(time.Now().Add(within)); err != nil {
		return nil, err
	}
	if _, err := conn.Write(data); err != nil {
		return nil, err
	}
	got := make([]byte, len(data))
	n, err := io.ReadFull(conn, got)
	return got[:n], err
}

// requireReset expects a new connection to be reset, which the client may notice at any of its steps.
func requireReset(t *testing.T, p *Proxy) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", p.Addr(), patience) //nolint:noctx // has a timeout
	if err == nil {
		defer conn.Close()
		_, err = roundTrip(conn, []byte("x"), patience)
	}
	require.True(t, errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE), "%v", err)
}

// A server that says something and closes must be heard to the end, and its end must look like one.
func TestProxyEnd(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test's listener
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			_, _ = conn.Write(bytes.Repeat([]byte("x"), 100_000))
			_ = conn.Close()
		}
	}()
	p := NewProxy(t, listener.Addr().String())
	got, err := io.ReadAll(dial(t, p))
	require.NoError(t, err)
	require.Len(t, got, 100_000)
}

func TestProxyPass(t *testing.T) {
	p := NewProxy(t, echo(t))
	conn := dial(t, p)
	data := bytes.Repeat([]byte("0123456789"), 100_000)
	sent := make(chan error, 1)
	go func() { _, err := conn.Write(data); sent <- err }()
	got := make([]byte, len(data))
	_, err := io.ReadFull(conn, got)
	require.NoError(t, err)
	require.NoError(t, <-sent)
	require.True(t, bytes.Equal(data, got))
}

func TestProxyCut(t *testing.T) {
	p := NewProxy(t, echo(t))
	conn := dial(t, p)
	_, err := roundTrip(conn, []byte("a"), patience)
	require.NoError(t, err)
	p.Cut()
	_, err = conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET)
	got, err := roundTrip(dial(t, p), []byte("b"), patience)
	require.NoError(t, err)
	require.Equal(t, "b", string(got))
}

func TestProxyRefuse(t *testing.T) {
	p := NewProxy(t, echo(t))
	open := dial(t, p)
	_, err := roundTrip(open, []byte("a"), patience)
	require.NoError(t, err)
	p.Refuse()
	_, err = open.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET)
	requireReset(t, p)
	p.Pass()
	_, err = roundTrip(dial(t, p), []byte("c"), patience)
	require.NoError(t, err)
}

func TestProxyBlackhole(t *testing.T) {
	p := NewProxy(t, echo(t))
	open := dial(t, p)
	_, err := roundTrip(open, []byte("a"), patience)
	require.NoError(t, err)
	p.Blackhole()
	fresh := dial(t, p)
	for _, conn := range []net.Conn{open, fresh} {
		_, err = roundTrip(conn, []byte("b"), 100*time.Millisecond)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	}
	p.Pass()
	for _, conn := range []net.Conn{open, fresh} {
		require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		got := make([]byte, 1)
		_, err = io.ReadFull(conn, got)
		require.NoError(t, err, "what was sent into the black hole arrives afterwards")
		require.Equal(t, "b", string(got))
	}
}

func TestProxySlow(t *testing.T) {
	p := NewProxy(t, echo(t))
	conn := dial(t, p)
	p.Slow(50*time.Millisecond, 0)
	began := time.Now()
	_, err := roundTrip(conn, []byte("a"), patience)
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(began), 100*time.Millisecond, "there and back")

	p.Slow(0, 10_000)
	began = time.Now()
	_, err = roundTrip(conn, make([]byte, 2000), patience)
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(began), 200*time.Millisecond)

	// At that rate it would take twice as long as it may.
	p.Pass()
	_, err = roundTrip(conn, make([]byte, 10_000*2*int(patience.Seconds())), patience)
	require.NoError(t, err)
}

func TestProxyWithoutTarget(t *testing.T) {
	p := NewProxy(t, "127.0.0.1:1")
	requireReset(t, p)
	require.Eventually(t, func() bool { return p.Connections() == 0 }, patience, 10*time.Millisecond)
}
