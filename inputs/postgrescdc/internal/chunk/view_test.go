package chunk

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

func TestSees(t *testing.T) {
	for _, c := range []struct {
		snapshot string
		yes, no  []uint32
	}{
		{"100:100:", []uint32{3, 99}, []uint32{0, 100, 101, 1 << 30}},
		{"90:100:90,95", []uint32{89, 91, 99}, []uint32{90, 95, 100}},
		// The numbers have gone around: 2^32 + 10, and 2^33 - 5.
		{"4294967299:4294967306:4294967300", []uint32{3, 5, 9, 4294967295, 3000000000}, []uint32{4, 10, 11, 2000000000}},
		{"8589934580:8589934591:8589934585", []uint32{4294967294, 4294967284, 2147483700}, []uint32{4294967295, 4294967289, 3, 2147483000}},
	} {
		m, err := parseMVCC(c.snapshot)
		require.NoError(t, err)
		for _, xid := range c.yes {
			require.True(t, m.sees(&change.Tx{XID: xid}), "%s: %d", c.snapshot, xid)
		}
		for _, xid := range c.no {
			require.False(t, m.sees(&change.Tx{XID: xid}), "%s: %d", c.snapshot, xid)
		}
	}
	for _, bad := range []string{"", "1:2", "1:x:", "1:2:x", "1:2:3:4"} {
		_, err := parseMVCC(bad)
		require.Error(t, err, bad)
	}
	on := &replayed{low: 0x2000}
	require.True(t, on.sees(&change.Tx{Position: "0/1FFF"}))
	for _, position := range []string{"0/2000", "0/2001", "1/0", "", "0/0", "x"} {
		require.False(t, on.sees(&change.Tx{Position: position}), position)
	}
}

func TestEndOfLog(t *testing.T) {
	p := pages{page: 8192, segment: 16 << 20}
	for insert, want := range map[lsn.LSN]lsn.LSN{
		0x1000: 0x1000, 0x2018: 0x2000, 0x2028: 0x2028, 0x2019: 0x2019, 0x2000: 0x2000, 0x1000028: 0x1000000, 0x1000018: 0x1000000,
	} {
		require.Equal(t, want, p.end(insert), insert.String())
	}
}

func TestBounds(t *testing.T) {
	key := []keyColumn{{name: `a"b`, typ: "integer", greater: "OPERATOR(s.>)", atMost: "OPERATOR(s.<=)"}, {name: "c", typ: "text", greater: "OPERATOR(s.>)", atMost: "OPERATOR(s.<=)"}}
	b := appendBound(key, [][]byte{[]byte("1"), {'x', 0xff}})
	require.Equal(t, snapshot.Bound(`{"a\"b integer":"1","c text":{"_base64":"eP8="}}`), b)
	values, err := parseBound(key, b)
	require.NoError(t, err)
	require.Equal(t, [][]byte{[]byte("1"), {'x', 0xff}}, values)
	var p params
	require.Equal(t, `("a""b", "c") OPERATOR(s.>) ($1::integer, $2::text)`, compare(key, after, values, &p))
	require.Equal(t, `("a""b" OPERATOR(s.<=) $3::integer)`, compare(key, upTo, values[:1], &p))
	key[0].less, key[0].equal, key[1].atMost = "OPERATOR(s.<)", "OPERATOR(s.=)", "OPERATOR(t.<=)"
	require.Equal(t, `("a""b" OPERATOR(s.<) $4::integer OR ("a""b" OPERATOR(s.=) $4::integer AND ("c" OPERATOR(t.<=) $5::text)))`, compare(key, upTo, values, &p))
	require.Len(t, p, 5)
}
