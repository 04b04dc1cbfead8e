package pgoutput

import (
	"encoding/binary"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// recorded returns the messages of testdata/pgoutput.bin, as PostgreSQL 15 made them: a table of many types, in every replica identity,
// all operations, a TOAST value that does not change, a truncate, a type, a message. Each follows its length in four bytes.
func recorded(t testing.TB) (messages [][]byte) {
	t.Helper()
	data, err := os.ReadFile("testdata/pgoutput.bin")
	require.NoError(t, err)
	for len(data) > 0 {
		n := binary.BigEndian.Uint32(data)
		messages, data = append(messages, data[4:4+n]), data[4+n:]
	}
	return messages
}

// TestRecorded reads each of them.
func TestRecorded(t *testing.T) {
	kinds, names := map[byte]int{}, map[string]int{}
	for _, m := range recorded(t) {
		var err error
		switch kinds[m[0]]++; m[0] {
		case MsgBegin:
			_, err = ParseBegin(m)
		case MsgCommit:
			_, err = ParseCommit(m)
		case MsgRelation:
			var rel Relation
			rel, err = ParseRelation(m)
			names[rel.Schema+"."+rel.Name+string(rel.Identity)]++
		case MsgTruncate:
			var oids []uint32
			oids, err = ParseTruncate(m)
			require.Len(t, oids, 1)
		case MsgMessage:
			var msg Message
			msg, err = ParseMessage(m)
			require.Equal(t, "prefix", msg.Prefix)
			require.Equal(t, "content", string(msg.Content))
		}
		require.NoError(t, err, "%q", m)
	}
	require.Equal(t, map[byte]int{
		MsgBegin: 9, MsgCommit: 9, MsgRelation: 5, MsgType: 10, MsgInsert: 3, MsgUpdate: 3, MsgDelete: 1, MsgTruncate: 1, MsgMessage: 1,
	}, kinds)
	require.Equal(t, map[string]int{"public.td": 1, "public.tf": 1, "public.ti": 1, "public.tn": 2}, names)
}

// FuzzPgoutput gives any bytes to every parser of messages: an error or a result, never a panic.
func FuzzPgoutput(f *testing.F) {
	f.Add([]byte("B\x00\x00\x00\x00\x01\x6b\x37\x48\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x7b"))
	f.Add([]byte("C\x00\x00\x00\x00\x00\x01\x6b\x37\x48\x00\x00\x00\x00\x01\x6b\x37\x58\x00\x02\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("R\x00\x00\x00\x01public\x00orders\x00d\x00\x01\x01id\x00\x00\x00\x00\x14\xff\xff\xff\xff"))
	f.Add([]byte("T\x00\x00\x00\x02\x00\x00\x00\x00\x01\x00\x00\x00\x02"))
	f.Add([]byte("M\x01\x00\x00\x00\x00\x01\x6b\x37\x48prefix\x00\x00\x00\x00\x02ab"))
	f.Add([]byte("w\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x03O"))
	f.Add([]byte("k\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02\x01"))
	for _, m := range recorded(f) {
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		_, _ = ParseBegin(b)
		_, _ = ParseCommit(b)
		if m, err := ParseRelation(b); err == nil {
			require.LessOrEqual(t, len(m.Columns), len(b))
		}
		if oids, err := ParseTruncate(b); err == nil {
			require.Len(t, b, 6+4*len(oids))
		}
		_, _ = ParseMessage(b)
		_, _ = RelationOf(b)
		_, _ = ParseWALData(b[1:])
		_, _ = ParseKeepalive(b[1:])
	})
}
