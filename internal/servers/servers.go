// Package servers runs private PostgreSQL, MySQL, MariaDB, Apache Kafka and Redis servers out of installed binaries, for tests,
// benchmarks and the demo. Each has its own data directory and a free port on 127.0.0.1, is ready when its Start function
// returns, and dies with this process, however that ends.
package servers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Password is that of the administrator and of User on every server that this package starts.
// It is a word that is found nowhere by chance.
const Password = "plover-42-quay"

// User is the name of the account that has only what change data capture needs.
const User = "deltaforge"

// ErrExternal is returned when a server that this package did not start is asked to start or stop.
var ErrExternal = errors.New("the server was not started by this process")

// Options are the same for every server; the zero value is a good default.
type Options struct {
	// Dir is the data directory, which must not be used by another server; Close keeps it. Empty: a temporary one, which
	// Close removes.
	Dir string
	// Port on 127.0.0.1. 0: a free one.
	Port int
	// Args are added to, and win over, the arguments of this package. PostgreSQL: name=value settings. MySQL, MariaDB and Redis:
	// command-line arguments. Kafka: key=value lines of server.properties.
	Args []string
	// Log receives what the server prints, besides server.log in the data directory. It is written to from one goroutine.
	Log io.Writer
	// TLS adds encryption with a self-signed certificate, see each server. MySQL always has it.
	TLS bool
	// NoSync leaves flushing to the operating system: faster, and still safe when the server is killed.
	NoSync bool
	// Password protects Redis, which otherwise needs none. The other servers always have Password.
	Password string
	// SASL makes Kafka require PLAIN or SCRAM authentication on its SASL listener.
	SASL bool
	// Through is the host:port of a proxy, for Kafka: it gets one listener more, at ThroughAddr, whose clients are told to connect to the proxy.
	Through string
}

// Server is the part that is the same for every server. Its methods may be called from any goroutine.
type Server struct {
	name    string
	addr    string
	port    int
	dir     string
	ownsDir bool
	log     io.Writer
	stop    syscall.Signal
	onDeath syscall.Signal // what the kernel sends to the server when this process dies; 0 is SIGKILL
	command func() command
	probe   func(ctx context.Context) error // nil for an external server
	tlsCA   string

	mu   sync.Mutex
	proc *process // nil when not running; guarded by mu
}

// command is what to execute.
type command struct {
	args []string
	env  []string
	cred *syscall.Credential
}

// newServer makes the data directory and picks the port.
func newServer(name string, opts Options) (*Server, error) {
	s := &Server{name: name, port: opts.Port, dir: opts.Dir, log: opts.Log}
	if s.dir == "" {
		dir, err := os.MkdirTemp("", "deltaforge-"+strings.ToLower(name)+"-")
		if err != nil {
			return nil, fmt.Errorf("creating a data directory for %s: %w", name, err)
		}
		s.dir, s.ownsDir = dir, true
	} else if dir, err := filepath.Abs(s.dir); err != nil {
		return nil, fmt.Errorf("finding the data directory of %s: %w", name, err)
	} else if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("creating the data directory of %s: %w", name, err)
	} else {
		s.dir = dir
	}
	if s.port == 0 {
		port, err := FreePort()
		if err != nil {
			return nil, errors.Join(err, s.removeDir())
		}
		s.port = port
	}
	s.addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
	return s, nil
}

// externalServer describes a server that somebody else runs.
func externalServer(name, addr string) *Server { return &Server{name: name, addr: addr} }

// Name is the product's.
func (s *Server) Name() string { return s.name }

// Addr is host:port. It stays the same over a restart.
func (s *Server) Addr() string { return s.addr }

// Dir is the server's directory, with its data and server.log. Empty for an external server.
func (s *Server) Dir() string { return s.dir }

// External reports whether somebody else runs the server.
func (s *Server) External() bool { return s.command == nil }

// PID is the process, for measurements. 0 when it is not running or external.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return 0
	}
	return s.proc.cmd.Process.Pid
}

// TLSCA is the path of the certificate that a client has to trust. Empty without TLS.
func (s *Server) TLSCA() string { return s.tlsCA }

// Start starts a stopped server again, with the same data and port, and returns when it answers.
func (s *Server) Start(ctx context.Context) error {
	if s.External() {
		return ErrExternal
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil && !s.proc.exited() {
		return fmt.Errorf("starting %s: it is running", s.name)
	}
	for {
		proc, err := s.launch(ctx)
		if err == nil {
			s.proc = proc
			return nil
		}
		// The kernel or orphaned children may hold on to the port or the shared memory for a moment after a kill.
		if ctx.Err() != nil || !strings.Contains(err.Error(), "in use") {
			return err
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

// launch starts the process once and waits until it answers.
func (s *Server) launch(ctx context.Context) (*process, error) {
	proc, err := startProcess(s.name, s.command(), filepath.Join(s.dir, "server.log"), s.log, s.onDeath)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var last error
	for {
		if last = s.tryProbe(ctx); last == nil {
			return proc, nil
		}
		select {
		case <-proc.done:
			return nil, fmt.Errorf("starting %s: it ended with %w; its log ends with:\n%s", s.name, proc.result(), proc.tail())
		case <-ctx.Done():
			proc.signal(syscall.SIGKILL)
			<-proc.done
			return nil, fmt.Errorf("starting %s: %w; last answer: %w; its log ends with:\n%s", s.name, ctx.Err(), last, proc.tail())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (s *Server) tryProbe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return s.probe(ctx)
}

// Stop shuts the server down as an administrator would, and kills it when ctx ends first. A server that is not running is left
// alone.
func (s *Server) Stop(ctx context.Context) error {
	if s.External() {
		return ErrExternal
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return nil
	}
	s.proc.signal(s.stop)
	var err error
	select {
	case <-s.proc.done:
	case <-ctx.Done():
		s.proc.signal(syscall.SIGKILL)
		<-s.proc.done
		err = fmt.Errorf("stopping %s: killed after %w", s.name, ctx.Err())
	}
	s.proc = nil
	return err
}

// Kill ends the server with SIGKILL and waits until it is gone.
func (s *Server) Kill() error {
	if s.External() {
		return ErrExternal
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return nil
	}
	s.proc.signal(syscall.SIGKILL)
	<-s.proc.done
	s.proc = nil
	return nil
}

// Restart is Stop and Start.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.Stop(ctx); err != nil {
		return err
	}
	return s.Start(ctx)
}

// Pause freezes the server (SIGSTOP): its connections stay open and nothing answers. Resume undoes it.
func (s *Server) Pause() error { return s.sendAll(syscall.SIGSTOP) }

// Resume undoes Pause.
func (s *Server) Resume() error { return s.sendAll(syscall.SIGCONT) }

func (s *Server) sendAll(sig syscall.Signal) error {
	if s.External() {
		return ErrExternal
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return fmt.Errorf("sending %v to %s: it is not running", sig, s.name)
	}
	s.proc.signal(sig)
	return nil
}

// Close kills the server and removes its directory if this package made it. An external server is left alone. It may be
// called twice.
func (s *Server) Close() error {
	if s.External() {
		return nil
	}
	return errors.Join(s.Kill(), s.removeDir())
}

func (s *Server) removeDir() error {
	if !s.ownsDir {
		return nil
	}
	// Children that outlive their killed parent for a moment may still create files.
	var err error
	for range 20 {
		if err = os.RemoveAll(s.dir); err == nil {
			return nil
		}
		<-time.After(50 * time.Millisecond)
	}
	return err
}

// abandon closes a server whose start went wrong and adds what that says to err.
func (s *Server) abandon(err error) error { return errors.Join(err, s.Close(), s.removeDir()) }

// path names a file in the server's directory.
func (s *Server) path(name string) string { return filepath.Join(s.dir, name) }

// FreePort finds a port on 127.0.0.1 below the range that the kernel takes the ports of outgoing connections and of listeners on port 0
// from: one of those could otherwise take the port before its server starts, or while it is stopped. The port is this process's until it ends:
// no other FreePort returns it, in this process or in another one.
func FreePort() (int, error) {
	low := 32768
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		if n, err := strconv.Atoi(strings.Fields(string(text))[0]); err == nil && n > 12000 {
			low = n
		}
	}
	for range 100 {
		port := low - 1 - rand.IntN(10000)
		if ours, err := reserve(port); err != nil || !ours {
			if err != nil {
				return 0, err
			}
			continue
		}
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))) //nolint:noctx // closed at once
		if err == nil {
			return port, listener.Close()
		}
	}
	return 0, errors.New("finding a free port on 127.0.0.1: a hundred were taken")
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
