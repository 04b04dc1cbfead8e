package lsn

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLSN(t *testing.T) {
	for text, want := range map[string]LSN{
		"0/0": 0, "0/16B3748": 0x16B3748, "16/B374D848": 0x16B374D848, "FFFFFFFF/FFFFFFFF": 1<<64 - 1,
	} {
		got, err := Parse(text)
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, text, got.String())
	}
	for _, text := range []string{"", "0", "0/", "/0", "0/16b3748", "0/016B3748", "0/16B3748 ", "0/1/2", "+0/1", "0/100000000", "x/1", "00/1"} {
		_, err := Parse(text)
		require.Error(t, err, text)
	}
	padded, err := ParseServer("0/016B3748")
	require.NoError(t, err)
	require.Equal(t, LSN(0x16B3748), padded)
}

func FuzzParseLSN(f *testing.F) {
	for _, s := range []string{"0/0", "0/16B3748", "FFFFFFFF/FFFFFFFF", "0/016", "/", "0/1 "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := Parse(s); err == nil {
			require.Equal(t, s, p.String())
		}
	})
}
