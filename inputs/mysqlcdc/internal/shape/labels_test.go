package shape

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseLabels(t *testing.T) {
	labels, err := ParseLabels(`enum('a','it''s','b\\c','x\ny','','ü,)')`)
	require.NoError(t, err)
	var got []string
	for _, l := range labels {
		got = append(got, string(l))
	}
	require.Equal(t, []string{"a", "it's", `b\c`, "x\ny", "", "ü,)"}, got)
	for _, s := range []string{"enum", "enum(a)", "enum('a", "enum('a'x'b')", "enum('a',)"} {
		_, err := ParseLabels(s)
		require.Error(t, err, s)
	}
}
