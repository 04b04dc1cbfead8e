package row

import (
	"encoding/hex"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// jsonDiff makes a difference as the log has it; doc is binary JSON in hex.
func jsonDiff(op byte, path, doc string) []byte {
	value, _ := hex.DecodeString(doc)
	d := append([]byte{op, byte(len(path))}, path...)
	if op == diffRemove {
		return d
	}
	return append(append(d, byte(len(value))), value...)
}

func TestBadJSONDiff(t *testing.T) {
	base := []byte(`{"a":[1,2],"b":{}}`)
	for _, diff := range [][]byte{
		jsonDiff(diffReplace, "$.c", "050100"),
		jsonDiff(diffReplace, "$.a[2]", "050100"),
		jsonDiff(diffReplace, "$.a.b", "050100"),
		jsonDiff(diffReplace, "$.b[0]", "050100"),
		jsonDiff(diffInsert, "$.a", "050100"),
		jsonDiff(diffInsert, "$", "050100"),
		jsonDiff(diffInsert, "$.a.x", "050100"),
		jsonDiff(diffRemove, "$.x", ""),
		jsonDiff(diffRemove, "$", ""),
		jsonDiff(7, "$.a", "050100"),
		jsonDiff(diffReplace, "a", "050100"),
		jsonDiff(diffReplace, "$.", "050100"),
		jsonDiff(diffReplace, "$[x]", "050100"),
		jsonDiff(diffReplace, `$."a`, "050100"),
		jsonDiff(diffReplace, "$.a", "ff"),
		jsonDiff(diffReplace, "$.a", "050100")[:6],
	} {
		_, err := appendJSONDiff(nil, base, diff)
		require.Error(t, err, "%q", diff)
	}
	out, err := appendJSONDiff([]byte("x"), base, append(jsonDiff(diffInsert, "$.a[1]", "050700"), jsonDiff(diffRemove, "$.b", "")...))
	require.NoError(t, err)
	require.Equal(t, `x{"a":[1,7,2]}`, string(out))
}

func FuzzJSONDiff(f *testing.F) {
	base, _ := hex.DecodeString("000100" + "0c00" + "0b00" + "0100" + "050100" + "61")
	for _, d := range [][]byte{
		jsonDiff(diffReplace, "$.a", "050200"), jsonDiff(diffInsert, `$."b c"`, "0c0161"), jsonDiff(diffRemove, "$.a", ""),
		jsonDiff(diffReplace, "$", "0201000800"+"0f0700"), jsonDiff(diffInsert, "$[3]", "0400"),
	} {
		f.Add(base, d)
	}
	f.Fuzz(func(t *testing.T, base, diff []byte) {
		text, err := appendBinaryJSON(nil, base)
		if err != nil {
			return
		}
		out, err := appendJSONDiff(nil, text, diff)
		if err == nil && !json.Valid(out) {
			t.Fatalf("%s with %x becomes %s", text, diff, out)
		}
		checkGrowth(t, append(text, diff...), out)
	})
}
