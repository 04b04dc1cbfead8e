// Package wire is the bytes of a connection: what may be asked before the server knows us, TLS records, and the frames of a stream.
package wire

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"
)

const (
	// ChunkSize is how much is asked of the socket at once. Rows keep pointing into their chunk until they are
	// delivered, so it also is the granularity in which memory is held.
	ChunkSize = 64 << 10
	// chunkTail is the smallest rest of a chunk that is worth a read.
	chunkTail = 8 << 10
	// maxFrame bounds a frame, against a length that is not one. A row is at most 1 GiB, its text form somewhat more.
	maxFrame = 2 << 30
)

// Stream frames the messages of a replication connection. It reads as much as the socket has, and never moves or reuses a
// byte that it has handed out, so rows are decoded later without having been copied.
//
// Until the stream starts the driver reads through Read.
type Stream struct {
	// ReadAt is when the newest read ended, LastRead its size, and Gap the time between it and the one before.
	ReadAt   time.Time
	LastRead int
	Gap      time.Duration

	conn    net.Conn // nil until the stream starts; for deadlines
	src     io.Reader
	records *RecordConn // below src
	timeout time.Duration
	chunk   []byte
	r, w    int // chunk[r:w] is read and not handed out
	stopped atomic.Bool
}

// NewStream returns a stream that reads from src, which is above records.
func NewStream(src io.Reader, records *RecordConn) *Stream {
	return &Stream{src: src, records: records}
}

// Begin takes over the connection from the driver. A read that takes longer than the timeout fails.
func (w *Stream) Begin(conn net.Conn, timeout time.Duration) { w.conn, w.timeout = conn, timeout }

// Stop ends the read that is under way and every later one. It may be called from any goroutine.
func (w *Stream) Stop() {
	w.stopped.Store(true)
	_ = w.conn.SetReadDeadline(time.Unix(1, 0)) // on a closed connection there is nothing to end
}

// Read implements io.Reader for the driver's own frontend: one byte a call, so that the driver, which reads ahead, never
// holds bytes of the stream when it hands the connection over.
func (w *Stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if w.r == w.w {
		if err := w.fill(1); err != nil {
			return 0, err
		}
	}
	p[0] = w.chunk[w.r]
	w.r++
	return 1, nil
}

// Ready reports whether next returns without reading.
func (w *Stream) Ready() bool {
	have := w.chunk[w.r:w.w]
	if len(have) < 5 {
		return false
	}
	n := binary.BigEndian.Uint32(have[1:])
	return uint64(len(have)) > uint64(n)
}

// Next returns the next message: its type and its body, which stays valid.
func (w *Stream) Next() (kind byte, body []byte, err error) {
	if err := w.fill(5); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(w.chunk[w.r+1:])
	if n < 4 || n > maxFrame {
		return 0, nil, fmt.Errorf("message of type %q with the impossible length %d", w.chunk[w.r], n)
	}
	if err := w.fill(1 + int(n)); err != nil {
		return 0, nil, err
	}
	kind = w.chunk[w.r]
	end := w.r + 1 + int(n)
	body = w.chunk[w.r+5 : end : end]
	w.r = end
	return kind, body, nil
}

// fill reads until at least n bytes are there.
func (w *Stream) fill(n int) error {
	for w.w-w.r < n {
		// A length is believed as far as its bytes have come: memory doubles with them.
		if free := len(w.chunk) - w.w; free < chunkTail {
			old := w.chunk[w.r:w.w]
			w.chunk = make([]byte, max(ChunkSize, min(n, 2*len(old))+chunkTail))
			w.r, w.w = 0, copy(w.chunk, old)
		}
		if w.conn != nil {
			if err := w.conn.SetReadDeadline(time.Now().Add(w.timeout)); err != nil {
				return err
			}
			// Checked after the new deadline: a stop before it would have been overwritten.
			if w.stopped.Load() {
				return net.ErrClosed
			}
		}
		got, err := w.read()
		if got > 0 {
			now := time.Now()
			w.Gap, w.ReadAt, w.LastRead = now.Sub(w.ReadAt), now, got
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// read reads what has arrived, at least one byte.
func (w *Stream) read() (n int, err error) {
	for {
		got, err := w.src.Read(w.chunk[w.w:])
		w.w += got
		n += got
		if err != nil || w.records == nil || !w.records.more() || w.w == len(w.chunk) {
			return n, err
		}
	}
}
