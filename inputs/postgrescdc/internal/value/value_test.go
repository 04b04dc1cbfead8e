package value

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
)

// TestBadText has text forms that no server sends: an error for each, naming what it was.
func TestBadText(t *testing.T) {
	elem := &Type{Codec: CodecInt}
	for _, c := range []struct {
		typ *Type
		raw string
	}{
		{&Type{Codec: CodecBool}, "true"},
		{&Type{Codec: CodecInt}, ""},
		{&Type{Codec: CodecInt}, "-"},
		{&Type{Codec: CodecInt}, "9223372036854775808"},
		{&Type{Codec: CodecInt}, "-9223372036854775809"},
		{&Type{Codec: CodecUint}, "18446744073709551616"},
		{&Type{Codec: CodecUint}, "99999999999999999999"},
		{&Type{Codec: CodecFloat64}, "1,5"},
		{&Type{Codec: CodecNumeric}, `1"`},
		{&Type{Codec: CodecNumeric}, ""},
		{&Type{Codec: CodecBytea}, "abc"},
		{&Type{Codec: CodecBytea}, `\x0`},
		{&Type{Codec: CodecTime, Digits: 6}, "1:2:3"},
		{&Type{Codec: CodecTime, Digits: 6}, "10:20:30."},
		{&Type{Codec: CodecTimestamp, Digits: 6}, "today"},
		{&Type{Codec: CodecTimestampTZ, Digits: 6}, "2024-02-29 11:51:30+01"},
		{&Type{Codec: CodecBit1}, "2"},
		{&Type{Codec: CodecVector}, "1 x"},
		{&Type{Codec: CodecPoint}, "1,2"},
		{&Type{Codec: CodecGeometry}, "01"},
		{&Type{Codec: CodecArray, Elem: elem, Delimiter: ','}, "{1"},
		{&Type{Codec: CodecArray, Elem: elem, Delimiter: ','}, "{1,}"},
		{&Type{Codec: CodecArray, Elem: elem, Delimiter: ','}, "{1}x"},
		{&Type{Codec: CodecArray, Elem: elem, Delimiter: ','}, "[0:1]"},
		{&Type{Codec: CodecArray, Elem: elem, Delimiter: ','}, `{"1}`},
		{&Type{Codec: CodecArray, Elem: elem, Delimiter: ','}, strings.Repeat("{", 1000)},
		{&Type{Codec: CodecComposite, Fields: []Field{{"a", elem}}}, "(1,2)"},
		{&Type{Codec: CodecComposite, Fields: []Field{{"a", elem}, {"b", elem}}}, "(1)"},
		{&Type{Codec: CodecHstore}, `"a"=>`},
		{&Type{Codec: CodecHstore}, `"a"=>"b" "c"=>"d"`},
		{&Type{Codec: CodecText}, "\xff"},
	} {
		d := Decoder{Trust: OrError}
		_, err := d.Value(c.typ, []byte(c.raw))
		if d.Invalid != nil {
			err = d.Invalid
		}
		assert.Error(t, err, "%d %q", c.typ.Codec, c.raw)
	}
}

func TestGeometry(t *testing.T) {
	for raw, want := range map[string]string{
		// ST_SetSRID(ST_MakePoint(1, 2), 4326), little-endian, with and without its reference system
		"0101000020E6100000000000000000F03F0000000000000040": `{"wkb":"AQEAAAAAAAAAAADwPwAAAAAAAABA","srid":4326}`,
		"0101000000000000000000F03F0000000000000040":         `{"wkb":"AQEAAAAAAAAAAADwPwAAAAAAAABA","srid":0}`,
		"0020000001000010E63FF00000000000004000000000000000": `{"wkb":"AAAAAAE/8AAAAAAAAEAAAAAAAAAA","srid":4326}`,
	} {
		d := Decoder{}
		v, err := d.Value(&Type{Codec: CodecGeometry}, []byte(raw))
		require.NoError(t, err)
		require.Equal(t, want, string(envelope.AppendValue(nil, v)))
	}
}

// TestAlteredComposite: the number of fields tells what a value is, or it is not decoded.
func TestAlteredComposite(t *testing.T) {
	text := &Type{Codec: CodecText}
	one := &Type{Codec: CodecComposite, Fields: []Field{{"a", text}}}
	two := &Type{Codec: CodecComposite, Fields: []Field{{"a", text}, {"b", text}}}
	altered := &Type{Codec: CodecAltered, Text: "pair", Maybe: []*Type{one, two}}
	d := Decoder{}
	for raw, want := range map[string]string{
		`()`: `{"a":null}`, `(x)`: `{"a":"x"}`, `("x,y")`: `{"a":"x,y"}`, `(,)`: `{"a":null,"b":null}`, `("""",")")`: `{"a":"\"","b":")"}`,
	} {
		v, err := d.Value(altered, []byte(raw))
		require.NoError(t, err, raw)
		require.Equal(t, want, string(envelope.AppendValue(nil, v)), raw)
	}
	for _, raw := range []string{"(,,)", "", "(", "x", `("x)`, `("x"y)`} {
		_, err := d.Value(altered, []byte(raw))
		require.Error(t, err, raw)
	}
	_, err := d.Value(&Type{Codec: CodecAltered, Text: "pair"}, []byte("(1)"))
	require.ErrorContains(t, err, "the composite type pair was altered about then")
}

// FuzzText gives any text to every type. What is accepted is valid JSON.
func FuzzText(f *testing.F) {
	for _, s := range []string{
		"1", "-1.5", "NaN", "t", `\x00ff`, "13:51:30.5+02", "2024-02-29 13:51:30.5", "2024-02-29 11:51:30+00", "infinity",
		"{1,NULL,{2}}", `{"a\"b",NULL,""}`, "[0:1]={1,2}", `(1,"a ""b""",)`, `"a"=>"1", "b"=>NULL`, "1 2 3", "(1,2)",
		"0101000020E6100000000000000000F03F0000000000000040", `("(1,""q"")","{a,b}")`,
	} {
		f.Add(s)
	}
	text, number := &Type{Codec: CodecText}, &Type{Codec: CodecInt}
	pair := &Type{Codec: CodecComposite, Fields: []Field{{"n", number}, {"t", text}}}
	types := []*Type{
		text, number, pair,
		{Codec: CodecAltered, Maybe: []*Type{{Codec: CodecComposite, Fields: []Field{{"n", number}}}, pair}},
		{Codec: CodecGone},
		{Codec: CodecBool},
		{Codec: CodecUint},
		{Codec: CodecDigits},
		{Codec: CodecFloat32},
		{Codec: CodecFloat64},
		{Codec: CodecNumeric},
		{Codec: CodecBytea},
		{Codec: CodecTime, Digits: 6},
		{Codec: CodecTime},
		{Codec: CodecTimestamp, Digits: 3},
		{Codec: CodecTimestampTZ, Digits: 6},
		{Codec: CodecBit1},
		{Codec: CodecVector},
		{Codec: CodecHstore},
		{Codec: CodecPoint},
		{Codec: CodecGeometry},
		{Codec: CodecArray, Elem: text, Delimiter: ','},
		{Codec: CodecArray, Elem: number, Delimiter: ';'},
		{Codec: CodecArray, Elem: pair, Delimiter: ','},
		{Codec: CodecComposite, Fields: []Field{{"p", pair}, {"l", &Type{Codec: CodecArray, Elem: text, Delimiter: ','}}}},
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, typ := range types {
			d := Decoder{Trust: OrError}
			v, err := d.Value(typ, []byte(s))
			if err != nil || d.Invalid != nil {
				continue
			}
			if j := envelope.AppendValue(nil, v); utf8.ValidString(s) {
				require.True(t, json.Valid(j), "%d: %s", typ.Codec, j)
			}
		}
	})
}

// FuzzIntegers compares with the numbers themselves.
func FuzzIntegers(f *testing.F) {
	f.Add(int64(0), uint64(0))
	f.Add(int64(math.MinInt64), uint64(math.MaxUint64))
	f.Fuzz(func(t *testing.T, i int64, u uint64) {
		n, err := parseInt(envelope.AppendValue(nil, change.IntValue(i)))
		require.NoError(t, err)
		require.Equal(t, i, n)
		m, err := parseUint(envelope.AppendValue(nil, change.UintValue(u)))
		require.NoError(t, err)
		require.Equal(t, u, m)
	})
}
