package value

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/envelope"
)

// nested makes a value out of bytes, in the text form of PostgreSQL (array_out, record_out, hstore_out) and in JSON.
type nested struct {
	b []byte
}

func (n *nested) next() byte {
	if len(n.b) == 0 {
		return 0
	}
	c := n.b[0]
	n.b = n.b[1:]
	return c
}

// word is a text; half of them are what has to be quoted.
func (n *nested) word() string {
	special := []string{"", "NULL", `"`, `\`, ",", "{", "}", "(", ")", " ", "=>", "\n", "ü", "😀", "null", "a b"}
	var s strings.Builder
	for range n.next() % 4 {
		if c := n.next(); c&1 == 0 {
			s.WriteString(special[c>>1%16])
		} else {
			s.WriteByte('a' + c>>1%26)
		}
	}
	return s.String()
}

// quoted writes a text in quotes, as arrays do (with backslashes) or composites (doubled).
func quoted(s string, doubled bool) string {
	if doubled {
		return `"` + strings.NewReplacer(`"`, `""`, `\`, `\\`).Replace(s) + `"`
	}
	return `"` + strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(s) + `"`
}

// bare reports a text that needs no quotes anywhere.
func bare(s string) bool {
	return s != "" && !strings.EqualFold(s, "null") && !strings.ContainsAny(s, "\"\\,{}() \n=>")
}

// array writes an array of texts or of composites; its dimensions are even, as the server has them.
func (n *nested) array(dimensions, size int, composites bool) (text, json string) {
	var texts, values []string
	for range size {
		t, j := "NULL", "null"
		switch {
		case dimensions > 1:
			t, j = n.array(dimensions-1, size, composites)
		case n.next()%5 == 0:
		case composites:
			t, j = n.composite()
			t = quoted(t, false)
		default:
			w := n.word()
			j = string(envelope.AppendString(nil, w))
			if t = w; !bare(w) || n.next()&1 == 0 {
				t = quoted(w, false)
			}
		}
		texts, values = append(texts, t), append(values, j)
	}
	return "{" + strings.Join(texts, ",") + "}", "[" + strings.Join(values, ",") + "]"
}

// composite writes a pair of a text and an array of texts.
func (n *nested) composite() (text, json string) {
	word, wordJSON := "", "null"
	if n.next()%5 > 0 {
		w := n.word()
		wordJSON = string(envelope.AppendString(nil, w))
		if word = w; !bare(w) {
			word = quoted(w, true)
		}
	}
	list, listJSON := "", "null"
	if n.next()%5 > 0 {
		list, listJSON = n.array(1, 1+int(n.next()%3), false)
		list = quoted(list, true)
	}
	return "(" + word + "," + list + ")", `{"t":` + wordJSON + `,"l":` + listJSON + "}"
}

// FuzzNestedText writes arrays and composites as the server does, and reads them back.
func FuzzNestedText(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, 2, 0, 1, 3, 4, 4, 6, 8, 2, 2, 2, 10, 12})
	f.Add([]byte("abcdefghijklmnopqrstuvwxyz0123456789"))
	text := &Type{Codec: CodecText}
	list := &Type{Codec: CodecArray, Elem: text, Delimiter: ','}
	pair := &Type{Codec: CodecComposite, Fields: []Field{{"t", text}, {"l", list}}}
	pairs := &Type{Codec: CodecArray, Elem: pair, Delimiter: ','}
	read := func(t *testing.T, typ *Type, raw, want string) {
		d := Decoder{Trust: OrError}
		v, err := d.Value(typ, []byte(raw))
		require.NoError(t, err, raw)
		require.NoError(t, d.Invalid, raw)
		require.Equal(t, want, string(envelope.AppendValue(nil, v)), raw)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n := &nested{b}
		for _, typ := range []*Type{list, pairs} {
			dimensions, size := 1+int(n.next()%4), 1+int(n.next()%3)
			raw, want := n.array(dimensions, size, typ == pairs)
			read(t, typ, raw, want)
			read(t, typ, strings.Repeat("[0:"+string('0'+rune(size-1))+"]", dimensions)+"="+raw, want)
		}
		raw, want := n.composite()
		read(t, pair, raw, want)
	})
}
