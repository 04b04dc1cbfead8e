package row

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/charset"
)

func TestUndecodableText(t *testing.T) {
	for _, c := range []struct {
		base64 bool
		want   string
	}{{true, `{"_base64":"/w=="}`}, {false, ""}} {
		col := Column{Type: 0x0f, Meta: 10, Text: charset.New("utf8mb4"), values: columnValues{base64Text: c.base64}}
		v, _, err := col.decode([]byte{1, 0xff}, nil)
		if !c.base64 {
			require.ErrorIs(t, err, charset.ErrNotText)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, []byte{0xff}, v.Bytes())
	}
}
