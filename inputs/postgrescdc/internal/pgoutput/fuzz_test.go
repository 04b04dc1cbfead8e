package pgoutput

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
)

// FuzzMessages writes messages of pgoutput and reads them back, whole and cut short.
func FuzzMessages(f *testing.F) {
	f.Add(uint64(0x16B3748), uint32(7), "public", "orders", byte('d'), []byte("id\x00\x14"), true)
	f.Add(uint64(1)<<63, uint32(1)<<31, "", "", byte('n'), []byte{}, false)
	f.Fuzz(func(t *testing.T, at uint64, oid uint32, schema, name string, identity byte, content []byte, flag bool) {
		schema, name = strings.ReplaceAll(schema, "\x00", ""), strings.ReplaceAll(name, "\x00", "")
		content = append([]byte{}, content...) // nil is not empty
		be := binary.BigEndian
		bit := byte(0)
		if flag {
			bit = 1
		}
		rel := append(be.AppendUint32([]byte{MsgRelation}, oid), schema+"\x00"+name+"\x00"...)
		rel = be.AppendUint16(append(rel, identity), 2)
		rel = be.AppendUint32(be.AppendUint32(append(append(rel, bit), name+"\x00"...), oid), oid)
		rel = be.AppendUint32(be.AppendUint32(append(rel, 0, 0), 25), 0xffffffff)
		want := Relation{OID: oid, Schema: schema, Name: name, Identity: identity, Columns: []Column{
			{Name: name, Key: flag, Typ: oid, Typmod: int32(oid)}, {Typ: 25, Typmod: -1},
		}}
		if schema == "" {
			want.Schema = "pg_catalog"
		}
		whole(t, rel, ParseRelation, want)

		msg := append(be.AppendUint64([]byte{MsgMessage, bit}, at), name+"\x00"...)
		msg = append(be.AppendUint32(msg, uint32(len(content))), content...)
		whole(t, msg, ParseMessage, Message{Transactional: flag, LSN: lsn.LSN(at), Prefix: name, Content: content})

		trunc := be.AppendUint32(append(be.AppendUint32([]byte{MsgTruncate}, 2), bit), oid)
		whole(t, be.AppendUint32(trunc, ^oid), ParseTruncate, []uint32{oid, ^oid})

		begin := be.AppendUint32(be.AppendUint64(be.AppendUint64([]byte{MsgBegin}, at), uint64(oid)), oid)
		whole(t, begin, ParseBegin, Begin{Final: lsn.LSN(at), Commit: fromPostgresTime(int64(oid)), XID: oid})
		commit := be.AppendUint64(be.AppendUint64(be.AppendUint64([]byte{MsgCommit, 0}, at), at+1), uint64(oid))
		whole(t, commit, ParseCommit, Commit{commit: lsn.LSN(at), End: lsn.LSN(at + 1)})
		alive := append(be.AppendUint64(be.AppendUint64(nil, at), uint64(oid)), bit)
		whole(t, alive, ParseKeepalive, Keepalive{End: lsn.LSN(at), Reply: flag})
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
