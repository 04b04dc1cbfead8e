package postgrescdc

import (
	"bytes"
	"encoding/binary"
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
	text := &typeInfo{codec: codecText}
	list := &typeInfo{codec: codecArray, elem: text, delimiter: ','}
	pair := &typeInfo{codec: codecComposite, fields: []field{{"t", text}, {"l", list}}}
	pairs := &typeInfo{codec: codecArray, elem: pair, delimiter: ','}
	read := func(t *testing.T, typ *typeInfo, raw, want string) {
		d := decoder{trust: textOrError}
		v, err := d.value(typ, []byte(raw))
		require.NoError(t, err, raw)
		require.NoError(t, d.invalid, raw)
		require.Equal(t, want, string(envelope.AppendValue(nil, v)), raw)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n := &nested{b}
		for _, typ := range []*typeInfo{list, pairs} {
			dimensions, size := 1+int(n.next()%4), 1+int(n.next()%3)
			raw, want := n.array(dimensions, size, typ == pairs)
			read(t, typ, raw, want)
			read(t, typ, strings.Repeat("[0:"+string('0'+rune(size-1))+"]", dimensions)+"="+raw, want)
		}
		raw, want := n.composite()
		read(t, pair, raw, want)
	})
}

// FuzzMessages writes messages of pgoutput and reads them back, whole and cut short.
func FuzzMessages(f *testing.F) {
	f.Add(uint64(0x16B3748), uint32(7), "public", "orders", byte('d'), []byte("id\x00\x14"), true)
	f.Add(uint64(1)<<63, uint32(1)<<31, "", "", byte('n'), []byte{}, false)
	f.Fuzz(func(t *testing.T, lsn uint64, oid uint32, schema, name string, identity byte, content []byte, flag bool) {
		schema, name = strings.ReplaceAll(schema, "\x00", ""), strings.ReplaceAll(name, "\x00", "")
		content = append([]byte{}, content...) // nil is not empty
		be := binary.BigEndian
		bit := byte(0)
		if flag {
			bit = 1
		}
		rel := append(be.AppendUint32([]byte{msgRelation}, oid), schema+"\x00"+name+"\x00"...)
		rel = be.AppendUint16(append(rel, identity), 2)
		rel = be.AppendUint32(be.AppendUint32(append(append(rel, bit), name+"\x00"...), oid), oid)
		rel = be.AppendUint32(be.AppendUint32(append(rel, 0, 0), 25), 0xffffffff)
		want := relationMsg{oid: oid, schema: schema, name: name, identity: identity, columns: []relationColumn{
			{name: name, key: flag, typ: oid, typmod: int32(oid)}, {typ: 25, typmod: -1},
		}}
		if schema == "" {
			want.schema = "pg_catalog"
		}
		whole(t, rel, parseRelation, want)

		msg := append(be.AppendUint64([]byte{msgMessage, bit}, lsn), name+"\x00"...)
		msg = append(be.AppendUint32(msg, uint32(len(content))), content...)
		whole(t, msg, parseLogicalMessage, logicalMsg{transactional: flag, lsn: LSN(lsn), prefix: name, content: content})

		trunc := be.AppendUint32(append(be.AppendUint32([]byte{msgTruncate}, 2), bit), oid)
		whole(t, be.AppendUint32(trunc, ^oid), parseTruncate, []uint32{oid, ^oid})

		begin := be.AppendUint32(be.AppendUint64(be.AppendUint64([]byte{msgBegin}, lsn), uint64(oid)), oid)
		whole(t, begin, parseBegin, beginMsg{final: LSN(lsn), commit: fromPostgresTime(int64(oid)), xid: oid})
		commit := be.AppendUint64(be.AppendUint64(be.AppendUint64([]byte{msgCommit, 0}, lsn), lsn+1), uint64(oid))
		whole(t, commit, parseCommit, commitMsg{commit: LSN(lsn), end: LSN(lsn + 1)})
		alive := append(be.AppendUint64(be.AppendUint64(nil, lsn), uint64(oid)), bit)
		whole(t, alive, parseKeepalive, keepalive{end: LSN(lsn), reply: flag})
	})
}

// whole parses a message, every beginning of it, and the message with a byte too many: only the first is one.
func whole[T any](t *testing.T, b []byte, parse func([]byte) (T, error), want T) {
	t.Helper()
	got, err := parse(bytes.Clone(b))
	require.NoError(t, err)
	require.Equal(t, want, got)
	for n := 1; n < len(b); n += 1 + len(b)/64 {
		_, err := parse(b[:n:n])
		require.Error(t, err, "%d of %d bytes", n, len(b))
	}
	_, err = parse(append(bytes.Clone(b), 0))
	require.Error(t, err, "a byte too many")
}
