package mysqlcdc

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestUndecodableText(t *testing.T) {
	for _, c := range []struct {
		base64 bool
		want   string
	}{{true, `{"_base64":"/w=="}`}, {false, ""}} {
		col := column{typ: 0x0f, meta: 10, text: newCharset("utf8mb4"), values: columnValues{base64Text: c.base64}}
		v, _, err := col.decode([]byte{1, 0xff}, nil)
		if !c.base64 {
			require.ErrorIs(t, err, errNotText)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, []byte{0xff}, v.Bytes())
	}
}
