package testenv

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy is a TCP proxy on 127.0.0.1 that breaks the connections through it on request. Its methods may be called from any
// goroutine, at any time; what they set holds for open and for new connections.
type Proxy struct {
	listener net.Listener
	ctx      context.Context //nolint:containedctx // the lifetime of the proxy, ended by close
	cancel   context.CancelFunc
	group    sync.WaitGroup

	mu      sync.Mutex
	target  string // guarded by mu
	faults  faults
	count   int           // of the connections so far; guarded by mu
	changed chan struct{} // closed and replaced when faults change; guarded by mu
	open    map[net.Conn]struct{}
}

// faults is what the proxy does to connections. The zero value passes everything on.
type faults struct {
	refuse    bool
	blackhole bool
	hold      int // as blackhole, for the first so many connections
	latency   time.Duration
	rate      int // bytes per second in each direction of each connection; 0 is no limit
}

// NewProxy starts a proxy in front of target (host:port), which need not be there yet, until the end of the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("starting a proxy: %v", err)
	}
	p := &Proxy{target: target, listener: listener, changed: make(chan struct{}), open: map[net.Conn]struct{}{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.group.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// Addr is the host:port to connect to.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Pass ends every fault. Bytes that a black hole held back go on their way.
func (p *Proxy) Pass() { p.set(faults{}) }

// Cut resets all open connections once. New ones are not affected.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.open {
		reset(conn)
	}
}

// Refuse resets all open connections, and every new one as soon as it is there.
func (p *Proxy) Refuse() {
	p.set(faults{refuse: true})
	p.Cut()
}

// Blackhole keeps connections open and accepts new ones, but passes nothing on in either direction, not even their end.
func (p *Proxy) Blackhole() { p.set(faults{blackhole: true}) }

// Hold is Blackhole for the connections that are open now. New ones pass. What was held back goes on its way at Pass, even if the
// client has closed its connection meanwhile.
func (p *Proxy) Hold() {
	p.mu.Lock()
	n := p.count
	p.mu.Unlock()
	p.set(faults{hold: n})
}

// Slow delays everything by latency, in each direction, and limits each direction of each connection to a number of bytes per
// second; 0 means no delay, or no limit.
func (p *Proxy) Slow(latency time.Duration, bytesPerSecond int) {
	p.set(faults{latency: latency, rate: bytesPerSecond})
}

// Redirect resets all open connections. New ones lead to another target, as when an address is given to another server.
func (p *Proxy) Redirect(target string) {
	p.mu.Lock()
	p.target = target
	p.mu.Unlock()
	p.Cut()
}

// Connections is the number of open connections to the proxy.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.open)
}

func (p *Proxy) set(f faults) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = f
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Proxy) now() (faults, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults, p.changed
}

// close also waits for the proxy's goroutines.
func (p *Proxy) close() {
	p.cancel()
	_ = p.listener.Close()
	p.Cut()
	p.group.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		if f, _ := p.now(); f.refuse {
			reset(client)
			continue
		}
		p.mu.Lock()
		p.open[client] = struct{}{}
		p.count++
		number := p.count
		p.mu.Unlock()
		p.group.Go(func() {
			p.serve(client, number)
			p.mu.Lock()
			delete(p.open, client)
			p.mu.Unlock()
		})
	}
}

// serve connects one client to the target and copies until one side ends.
func (p *Proxy) serve(client net.Conn, number int) {
	defer client.Close()
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	if _, ok := p.passable(ctx, number); !ok {
		return
	}
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	var dialer net.Dialer
	server, err := dialer.DialContext(ctx, "tcp", target)
	if err != nil {
		reset(client)
		return
	}
	defer server.Close()
	stop := context.AfterFunc(ctx, func() {
		reset(client)
		reset(server)
	})
	defer stop()
	var directions sync.WaitGroup
	for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
		directions.Go(func() {
			if !p.copy(ctx, number, way[1], way[0]) {
				cancel() // a reset of one side is passed on to the other
			}
		})
	}
	directions.Wait()
}

// chunk is what was read, and when.
type chunk struct {
	data []byte
	at   time.Time
}

// copy passes on what it reads from src, and at last that src has ended. It reports false when a connection broke. Reading goes
// on while a chunk waits out its latency, so that latency is not also a limit of throughput; how far is bounded by the queue.
func (p *Proxy) copy(ctx context.Context, number int, dst, src net.Conn) bool {
	queue := make(chan chunk, 64)
	var end error       // set before queue is closed
	p.group.Go(func() { // ends when src is closed, at the latest when serve returns
		defer close(queue)
		for {
			buffer := make([]byte, 32<<10)
			n, err := src.Read(buffer)
			if n > 0 {
				select {
				case queue <- chunk{data: buffer[:n], at: time.Now()}:
				case <-ctx.Done():
					end = ctx.Err()
					return
				}
			}
			if err != nil {
				end = err
				return
			}
		}
	})
	for c := range queue {
		if !p.deliver(ctx, number, dst, c) {
			return false
		}
	}
	// A black hole swallows the end of a connection too.
	if _, ok := p.passable(ctx, number); !ok || !errors.Is(end, io.EOF) {
		return false
	}
	tcp, ok := dst.(*net.TCPConn)
	return ok && tcp.CloseWrite() == nil
}

// deliver writes a chunk as the faults of the moment allow. It reports false when the connection is over.
func (p *Proxy) deliver(ctx context.Context, number int, dst net.Conn, c chunk) bool {
	for len(c.data) > 0 {
		f, ok := p.passable(ctx, number)
		if !ok || !sleep(ctx, time.Until(c.at.Add(f.latency))) {
			return false
		}
		n := len(c.data)
		if f.rate > 0 {
			n = min(n, max(1, f.rate/20))
		}
		if f.rate > 0 && !sleep(ctx, time.Duration(n)*time.Second/time.Duration(f.rate)) {
			return false
		}
		if _, err := dst.Write(c.data[:n]); err != nil {
			return false
		}
		c.data = c.data[n:]
	}
	return true
}

// passable waits until the proxy is no black hole for a connection, and returns the faults of that moment. It reports false when ctx ended.
func (p *Proxy) passable(ctx context.Context, number int) (faults, bool) {
	for {
		f, changed := p.now()
		if !f.blackhole && number > f.hold {
			return f, ctx.Err() == nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return f, false
		}
	}
}

// reset closes a connection with RST instead of FIN.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
