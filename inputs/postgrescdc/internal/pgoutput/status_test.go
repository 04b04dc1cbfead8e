package pgoutput

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
)

func TestAppendStatus(t *testing.T) {
	for _, c := range []struct {
		written, flushed, first lsn.LSN
		ask                     bool
	}{{0x30, 0x20, 0x30, true}, {0x30, 0x20, 0x30, false}, {0x10, 0x20, 0x20, false}} {
		b := AppendStatus(nil, c.written, c.flushed, time.UnixMicro(postgresEpoch+5), c.ask)
		want := []byte{
			'd', 0, 0, 0, 38, 'r', 0, 0, 0, 0, 0, 0, 0, byte(c.first), 0, 0, 0, 0, 0, 0, 0, byte(c.flushed), 0, 0, 0, 0, 0, 0, 0, byte(c.flushed),
			0, 0, 0, 0, 0, 0, 0, 5, 0,
		}
		if c.ask {
			want[len(want)-1] = 1
		}
		require.Equal(t, want, b)
	}
}
