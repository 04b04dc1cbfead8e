package redisout

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// fake is enough of a Redis to write streams to, in this process, with faults on request. What it says is what Redis 7 says.
type fake struct {
	addr string

	mu       sync.Mutex
	streams  map[string][][]string // stream: the fields and values of its entries
	commands []string              // first words, and the key where there is one
	execs    int                   // transactions so far
	guards   map[string]int        // how often each key was raised
	conns    map[*fakeConn]struct{}
	values   map[string]string // of keys that are strings

	// Faults. A function returns the error to answer with, or nothing. "close" closes the connection instead.
	direct func(args []string) string // of a command outside of a transaction
	queue  func(args []string) string // of one that would be queued
	run    func(args []string) string // of one that is run by EXEC
	ran    func(args []string) string // of EXEC, after everything was run
}

type fakeConn struct {
	net.Conn
	watched map[string]bool
	dirty   bool
	multi   bool
	aborted string
	queued  [][]string
}

func startFake(t testing.TB) *fake {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f := &fake{addr: l.Addr().String(), streams: map[string][][]string{}, guards: map[string]int{}, conns: map[*fakeConn]struct{}{}, values: map[string]string{}}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { f.serve(&fakeConn{Conn: c}) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		f.mu.Lock()
		for c := range f.conns {
			_ = c.Close()
		}
		f.mu.Unlock()
		serving.Wait()
	})
	return f
}

// conf is a configuration for the fake.
func (f *fake) conf(more string) string { return "url: redis://" + f.addr + "\nprefix: df\n" + more }

// events returns the payloads of a stream.
func (f *fake) events(stream string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, e := range f.streams[stream] {
		out = append(out, e[len(e)-1])
	}
	return out
}

// set changes faults while the fake serves.
func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fake) serve(c *fakeConn) {
	f.mu.Lock()
	f.conns[c] = struct{}{}
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.conns, c)
		f.mu.Unlock()
		_ = c.Close()
	}()
	r := bufio.NewReader(c)
	for {
		args, err := readCommand(r)
		if err != nil {
			return
		}
		answer, open := f.answer(c, args)
		if _, err := io.WriteString(c, answer); err != nil || !open {
			return
		}
	}
}

func readCommand(r *bufio.Reader) ([]string, error) {
	n, err := readLength(r, '*')
	if err != nil {
		return nil, err
	}
	args := make([]string, n)
	for i := range args {
		size, err := readLength(r, '$')
		if err != nil {
			return nil, err
		}
		b := make([]byte, size+2)
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, err
		}
		args[i] = string(b[:size])
	}
	return args, nil
}

func readLength(r *bufio.Reader, mark byte) (int, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return 0, err
	}
	if line[0] != mark {
		return 0, fmt.Errorf("%q", line)
	}
	return strconv.Atoi(strings.TrimSpace(line[1:]))
}

func (f *fake) answer(c *fakeConn, args []string) (answer string, open bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	args[0] = strings.ToLower(args[0])
	word := args[0]
	if len(args) > 1 && word != "hello" && word != "auth" {
		word += " " + args[1]
	}
	f.commands = append(f.commands, word)
	if c.multi && args[0] != "exec" {
		if e := ask(f.queue, args); e != "" {
			c.aborted = e
			return "-" + e + "\r\n", e != "close" && !strings.HasPrefix(e, protocolError)
		}
		c.queued = append(c.queued, args)
		return "+QUEUED\r\n", true
	}
	if e := ask(f.direct, args); e == "close" {
		return "", false
	} else if e != "" {
		return "-" + e + "\r\n", true
	}
	switch args[0] {
	case "incr":
		f.guards[args[1]]++
		f.touch(args[1])
		return fmt.Sprintf(":%d\r\n", f.guards[args[1]]), true
	case "watch":
		c.watched = map[string]bool{args[1]: true}
	case "multi":
		c.multi = true
	case "exec":
		out := f.exec(c)
		if ask(f.ran, args) == "close" {
			return "", false
		}
		return out, true
	case "get":
		return f.value(args[1]), true
	case "mget":
		out := fmt.Sprintf("*%d\r\n", len(args)-1)
		for _, key := range args[1:] {
			out += f.value(key)
		}
		return out, true
	case "type":
		switch {
		case f.values[args[1]] != "":
			return "+string\r\n", true
		case f.streams[args[1]] != nil:
			return "+stream\r\n", true
		}
		return "+none\r\n", true
	case "select", "auth":
	default:
		return "-ERR unknown command\r\n", true
	}
	return "+OK\r\n", true
}

func ask(fault func([]string) string, args []string) string {
	if fault == nil {
		return ""
	}
	return fault(args)
}

// touch lets the transactions of those fail that watch a key.
func (f *fake) touch(key string) {
	for c := range f.conns {
		c.dirty = c.dirty || c.watched[key]
	}
}

func (f *fake) value(key string) string {
	v, ok := f.values[key]
	if !ok {
		return "$-1\r\n"
	}
	return fmt.Sprintf("$%d\r\n%s\r\n", len(v), v)
}

func (f *fake) exec(c *fakeConn) string {
	if !c.multi {
		return "-ERR EXEC without MULTI\r\n"
	}
	f.execs++
	queued, aborted, dirty := c.queued, c.aborted, c.dirty
	c.multi, c.queued, c.aborted, c.dirty, c.watched = false, nil, "", false, nil
	switch {
	case aborted != "":
		return "-EXECABORT Transaction discarded because of previous errors.\r\n"
	case dirty:
		return "*-1\r\n"
	}
	if e := ask(f.direct, []string{"running exec"}); e != "" {
		return "-" + e + "\r\n"
	}
	out := fmt.Sprintf("*%d\r\n", len(queued))
	for n, args := range queued {
		if e := ask(f.run, args); e != "" {
			out += "-" + e + "\r\n"
			continue
		}
		if strings.EqualFold(args[0], "set") {
			f.values[args[1]] = args[2]
			f.touch(args[1])
			out += "+OK\r\n"
			continue
		}
		f.streams[args[1]] = append(f.streams[args[1]], args[3:])
		out += fmt.Sprintf("$3\r\n1-%d\r\n", n%10)
	}
	return out
}
