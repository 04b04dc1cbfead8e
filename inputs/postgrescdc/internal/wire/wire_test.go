package wire

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWire cuts a stream of messages everywhere.
func TestWire(t *testing.T) {
	var stream []byte
	var want []string
	for _, size := range []int{0, 1, 100, chunkTail, ChunkSize, 3 * ChunkSize, 5} {
		body := strings.Repeat("x", size)
		want = append(want, body)
		stream = append(stream, 'd')
		stream = append(stream, byte((size+4)>>24), byte((size+4)>>16), byte((size+4)>>8), byte(size+4))
		stream = append(stream, body...)
	}
	for _, step := range []int{1, 7, 4096, len(stream)} {
		w := &Stream{src: iotestReader{bytes.NewReader(stream), step}}
		var kept [][]byte
		for range want {
			_, body, err := w.Next()
			require.NoError(t, err)
			kept = append(kept, body)
		}
		for i, body := range kept {
			require.Equal(t, want[i], string(body), "message %d in steps of %d", i, step)
		}
		_, _, err := w.Next()
		require.ErrorIs(t, err, io.EOF)
	}
	w := &Stream{src: bytes.NewReader([]byte{'d', 0xff, 0xff, 0xff, 0xff})}
	_, _, err := w.Next()
	require.ErrorContains(t, err, "impossible length")
	// The driver's reads leave what follows alone.
	w = &Stream{src: bytes.NewReader([]byte("handshake" + string(stream)))}
	head := make([]byte, 9)
	_, err = io.ReadAtLeast(w, head, 9)
	require.NoError(t, err)
	_, body, err := w.Next()
	require.NoError(t, err)
	require.Empty(t, body)
}

// iotestReader returns at most step bytes a read.
type iotestReader struct {
	r    io.Reader
	step int
}

func (r iotestReader) Read(p []byte) (int, error) { return r.r.Read(p[:min(len(p), r.step)]) }

// TestRecordConn passes TLS records on one by one and knows when a further one is there.
func TestRecordConn(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	go func() {
		buf := make([]byte, 8)
		_, _ = io.ReadFull(server, buf)
		_, _ = server.Write([]byte("S\x17\x03\x03\x00\x02ab\x17\x03\x03\x00\x01c\x17\x03"))
		_, _ = server.Write([]byte("\x03\x00\x01d"))
	}()
	c := &RecordConn{Conn: client}
	_, err := c.Write([]byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f})
	require.NoError(t, err)
	buf := make([]byte, 100)
	read := func(want string, more bool) {
		t.Helper()
		n, err := c.Read(buf)
		require.NoError(t, err)
		require.Equal(t, want, string(buf[:n]))
		require.Equal(t, more, c.more())
	}
	read("S", true)
	read("\x17\x03\x03\x00\x02ab", true)
	read("\x17\x03\x03\x00\x01c", false)
	n, err := io.ReadFull(c, buf[:6])
	require.NoError(t, err)
	require.Equal(t, "\x17\x03\x03\x00\x01d", string(buf[:n]))
}

// TestMemoryOfALength: a length is believed as far as its bytes have come.
func TestMemoryOfALength(t *testing.T) {
	w := &Stream{src: io.MultiReader(strings.NewReader("d\x7f\xff\xff\xff"), strings.NewReader(strings.Repeat("x", ChunkSize)))}
	_, _, err := w.Next()
	require.ErrorIs(t, err, io.EOF)
	require.LessOrEqual(t, len(w.chunk), 4*ChunkSize)
}
