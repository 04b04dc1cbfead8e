package wire

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/stretchr/testify/require"
)

// frame makes the packets that a server sends payloads in.
func frame(sequence uint8, payloads ...[]byte) (wire []byte) {
	for _, p := range payloads {
		for {
			n := min(len(p), mysql.MaxPayloadLen)
			wire = append(wire, byte(n), byte(n>>8), byte(n>>16), sequence)
			wire = append(wire, p[:n]...)
			sequence++
			if p = p[n:]; n < mysql.MaxPayloadLen {
				break
			}
		}
	}
	return wire
}

func TestPackets(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var payloads [][]byte
	for n := range 700 { // sequence numbers start again at 256
		size := r.IntN(300)
		if n%50 == 0 {
			size = r.IntN(3 * maxSlab)
		}
		p := make([]byte, size)
		for i := range p {
			p[i] = byte(r.Uint32())
		}
		payloads = append(payloads, p)
	}
	wire := frame(3, payloads...)
	for name, conn := range map[string]io.Reader{
		"bytes": iotest.OneByteReader(bytes.NewReader(wire)), "whole": bytes.NewReader(wire), "halves": iotest.HalfReader(bytes.NewReader(wire)), "late": iotest.DataErrReader(bytes.NewReader(wire)),
	} {
		deadlines := 0
		p := Packets{conn: conn, sequence: 3, timeout: time.Minute, deadline: func(time.Time) error { deadlines++; return nil }}
		var got [][]byte
		for range payloads {
			packet, at, err := p.Next()
			require.NoError(t, err, name)
			require.WithinDuration(t, time.Now(), at, time.Minute)
			got = append(got, packet)
		}
		for i := range got { // at the end: what was handed out has not been written again
			require.True(t, bytes.Equal(payloads[i], got[i]), "%s: packet %d", name, i)
			require.Equal(t, len(got[i]), cap(got[i]), "appending to a packet would change the next one")
		}
		require.Positive(t, deadlines)
		_, _, err := p.Next()
		require.ErrorIs(t, err, io.EOF)
	}
}

// Payloads from 16 MiB on come in several packets, the last of which may be empty.
func TestPacketsOfOnePayload(t *testing.T) {
	for _, size := range []int{mysql.MaxPayloadLen - 1, mysql.MaxPayloadLen, mysql.MaxPayloadLen + 1, 2 * mysql.MaxPayloadLen} {
		want := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
		p := Packets{conn: bytes.NewReader(frame(1, want, []byte("next"))), sequence: 1}
		got, _, err := p.Next()
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got), size)
		got, _, err = p.Next()
		require.NoError(t, err)
		require.Equal(t, "next", string(got))
	}
}

func TestPacketsFail(t *testing.T) {
	wire := frame(1, []byte("one"), []byte("two"))
	for n := range len(wire) {
		p := Packets{conn: bytes.NewReader(wire[:n]), sequence: 1}
		var err error
		for err == nil {
			_, _, err = p.Next()
		}
		if n == 0 || n == len(wire)/2 {
			require.ErrorIs(t, err, io.EOF)
		} else {
			require.True(t, errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF), err)
		}
	}
	p := Packets{conn: bytes.NewReader(wire), sequence: 2}
	_, _, err := p.Next()
	require.EqualError(t, err, "packet 1 came in place of packet 2")
	p = Packets{conn: bytes.NewReader(wire), timeout: time.Second, deadline: func(time.Time) error { return io.ErrClosedPipe }}
	_, _, err = p.Next()
	require.ErrorIs(t, err, io.ErrClosedPipe)
}
