package postgrescdc

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"
)

const (
	// chunkSize is how much is asked of the socket at once. Rows keep pointing into their chunk until they are
	// delivered, so it also is the granularity in which memory is held.
	chunkSize = 64 << 10
	// chunkTail is the smallest rest of a chunk that is worth a read.
	chunkTail = 8 << 10
	// maxFrame bounds a frame, against a length that is not one. A row is at most 1 GiB, its text form somewhat more.
	maxFrame = 2 << 30
)

// wire frames the messages of a replication connection. It reads as much as the socket has, and never moves or reuses a
// byte that it has handed out, so rows are decoded later without having been copied.
//
// Until the stream starts the driver reads through Read.
type wire struct {
	conn    net.Conn // nil until the stream starts; for deadlines
	src     io.Reader
	records *recordConn // below src
	timeout time.Duration
	chunk   []byte
	r, w    int // chunk[r:w] is read and not handed out
	readAt  time.Time
	// lastRead is the size of the newest read, and gap the time between it and the one before.
	lastRead int
	gap      time.Duration
	stopped  atomic.Bool
}

// stop ends the read that is under way and every later one. It may be called from any goroutine.
func (w *wire) stop() {
	w.stopped.Store(true)
	_ = w.conn.SetReadDeadline(time.Unix(1, 0)) // on a closed connection there is nothing to end
}

// Read implements io.Reader for the driver's own frontend: one byte a call, so that the driver, which reads ahead, never
// holds bytes of the stream when it hands the connection over.
func (w *wire) Read(p []byte) (int, error) {
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

// ready reports whether next returns without reading.
func (w *wire) ready() bool {
	have := w.chunk[w.r:w.w]
	if len(have) < 5 {
		return false
	}
	n := binary.BigEndian.Uint32(have[1:])
	return uint64(len(have)) > uint64(n)
}

// next returns the next message: its type and its body, which stays valid.
func (w *wire) next() (kind byte, body []byte, err error) {
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
func (w *wire) fill(n int) error {
	for w.w-w.r < n {
		// A length is believed as far as its bytes have come: memory doubles with them.
		if free := len(w.chunk) - w.w; free < chunkTail {
			old := w.chunk[w.r:w.w]
			w.chunk = make([]byte, max(chunkSize, min(n, 2*len(old))+chunkTail))
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
			w.gap, w.readAt, w.lastRead = now.Sub(w.readAt), now, got
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// read reads what has arrived, at least one byte.
func (w *wire) read() (n int, err error) {
	for {
		got, err := w.src.Read(w.chunk[w.w:])
		w.w += got
		n += got
		if err != nil || w.records == nil || !w.records.more() || w.w == len(w.chunk) {
			return n, err
		}
	}
}

// postgresEpoch is 2000-01-01 in microseconds since 1970: the zero of PostgreSQL's clock.
const postgresEpoch = 946684800000000

// fromPostgresTime converts microseconds since 2000-01-01.
func fromPostgresTime(us int64) time.Time { return time.UnixMicro(us + postgresEpoch).UTC() }

// appendStatus appends a standby status update inside its CopyData message ("Streaming Replication Protocol").
func appendStatus(dst []byte, written, flushed LSN, now time.Time, reply bool) []byte {
	dst = append(dst, 'd')
	dst = binary.BigEndian.AppendUint32(dst, 4+34)
	dst = append(dst, 'r')
	dst = binary.BigEndian.AppendUint64(dst, uint64(max(written, flushed)))
	dst = binary.BigEndian.AppendUint64(dst, uint64(flushed))
	dst = binary.BigEndian.AppendUint64(dst, uint64(flushed))
	dst = binary.BigEndian.AppendUint64(dst, uint64(now.UnixMicro()-postgresEpoch))
	if reply {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// endOfSession is CopyDone and Terminate, which end a replication session.
const endOfSession = "c\x00\x00\x00\x04X\x00\x00\x00\x04"
