package chunk

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/internal/change"
)

func position(t *testing.T, s string) *gtid.Position {
	p, err := gtid.ParseLoosely(s)
	require.NoError(t, err)
	return p
}

// TestView: what is seen and reached, of each way to know it, and what is not certain.
func TestView(t *testing.T) {
	const uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
	s := New(Config{})
	v := func(set func(v *view)) *view {
		v := &view{source: s, server: "here"}
		v.high.Store(position(t, "bin.000003:500"))
		set(v)
		return v
	}
	s.Streams("here")
	byGTID := v(func(v *view) { v.executed = position(t, uuid+":1-5:7@x.1:4").Set() })
	byPlace := v(func(v *view) { v.before = position(t, "bin.000003:400") })
	byDomain := v(func(v *view) { v.domains = position(t, "0-1-50,1-1-7@x.1:4") })
	for _, c := range []struct {
		v    *view
		tx   *change.Tx
		want bool
	}{
		{byGTID, &change.Tx{GTID: uuid + ":5"}, true},
		{byGTID, &change.Tx{GTID: uuid + ":6"}, false},
		{byGTID, &change.Tx{GTID: uuid + ":7"}, true},
		{byGTID, &change.Tx{GTID: uuid + ":tag:5"}, false},
		{byGTID, &change.Tx{GTID: uuid + ":5", XA: true}, false},
		{byGTID, &change.Tx{File: "bin.000001", Pos: 4}, false},
		{byPlace, &change.Tx{File: "bin.000002", Pos: 900}, true},
		{byPlace, &change.Tx{File: "bin.000003", Pos: 399}, true},
		{byPlace, &change.Tx{File: "bin.000003", Pos: 400}, false},
		{byPlace, &change.Tx{File: "bin.000004", Pos: 4}, false},
		{byPlace, &change.Tx{File: "other.000001", Pos: 4}, false},
		{byPlace, &change.Tx{GTID: "0-1-1"}, false},
		{byDomain, &change.Tx{GTID: "0-2-50", File: "bin.000009", Pos: 4}, true},
		{byDomain, &change.Tx{GTID: "1-1-8"}, false},
		{byDomain, &change.Tx{GTID: "2-1-1"}, false},
	} {
		require.Equal(t, c.want, c.v.Sees(c.tx), "%+v", c.tx)
	}
	for at, want := range map[string]bool{
		"bin.000003:499": false, "bin.000003:500": true, "bin.000004:4": true, "bin.000002:900": false, uuid + ":1-9": false, "other.000009:900": false,
		uuid + ":1-9@bin.000003:500": true,
	} {
		require.Equal(t, want, byGTID.Reached(position(t, at)), at)
	}
	s.Streams("elsewhere") // whose files are others
	require.False(t, byPlace.Sees(&change.Tx{File: "bin.000002", Pos: 900}))
	require.False(t, byGTID.Reached(position(t, "bin.000004:4")))
	require.True(t, byGTID.Sees(&change.Tx{GTID: uuid + ":5"}), "GTIDs are the same there")
}
