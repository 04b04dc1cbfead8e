package wire

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAuthConn follows what a server says until it knows who we are, cut everywhere.
func TestAuthConn(t *testing.T) {
	const ok, salt, sasl, ask = "R\x00\x00\x00\x08\x00\x00\x00\x00", "R\x00\x00\x00\x0c\x00\x00\x00\x05abcd", "R\x00\x00\x00\x17\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00",
		"R\x00\x00\x00\x08\x00\x00\x00\x03"
	for text, want := range map[string]bool{
		ok + ask: true, salt + ok + ask: true, sasl + ok: true, ask: false, salt + ask: false, sasl + "E\x00\x00\x00\x05x" + ask: false, "N\x00\x00\x00\x09" + ask[:5] + ok: true,
		"R\x00\x00\x00\x00\x00\x00\x00\x03": false, "v\x00\x00\x00\x00" + ask: false,
	} {
		for piece := 1; piece <= len(text); piece++ {
			c, fine := &AuthConn{}, true
			for rest := text; rest != ""; rest = rest[min(piece, len(rest)):] {
				fine = fine && c.look([]byte(rest[:min(piece, len(rest))]))
			}
			require.Equal(t, want, fine, "%q in pieces of %d", text, piece)
		}
	}
}
