package gtid

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/stretchr/testify/require"
)

const (
	uuidA = "1cc48468-e68a-11f1-86ec-02fc00000001"
	uuidB = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
)

func TestParsePosition(t *testing.T) {
	for _, s := range []string{
		"binlog.000001:157", "a.b-c.1000000:4", uuidA + ":1", uuidA + ":1-5:7:9-10", uuidA + ":1-5," + uuidB + ":3@bin.000007:99",
		uuidA + ":1-5:tag:1-3:9:ztag:4", uuidA + ":tag:1-3", "binlog.000001:157#1764305225",
		uuidA + ":1-5@bin.000007:99#4294967295", "@bin.000001:4#1", "a#1.000001:4#2", "0-1-57", "0-1-57,7-4294967295-18446744073709551615@b.1:4", "@binlog.000001:157",
	} {
		p, err := ParsePosition(s)
		require.NoError(t, err, s)
		require.Equal(t, s, p.String())
	}
	for _, s := range []string{
		"", "@", "binlog:4", "binlog.000001", "binlog.000001:", "binlog.1:04", "binlog.1:-4", ".1:4", uuidA, uuidA + ":", uuidA + ":0",
		uuidA + ":5-1", uuidA + ":1-5:6", uuidA + ":7:1", uuidB + ":1," + uuidA + ":1", uuidA + ":1," + uuidA + ":2", uuidA + ":Tag:1",
		uuidA + ":tag", uuidA + ":1@", uuidA + ":1@x", "1CC48468-e68a-11f1-86ec-02fc00000001:1", "0-1", "0-1-2-3", "0-01-2", "1-1-1,0-1-1", "0-1-1,0-2-2",
		"4294967296-1-1", uuidA + ":9223372036854775807", uuidA + ":1 ", " 0-1-1",
		"b.1:4#", "b.1:4#0", "b.1:4#01", "b.1:4#4294967296", "b.1:4#1#2", "b.1#1:4#", uuidA + ":1#5", uuidA + ":1@b.1:4#x",
	} {
		_, err := ParsePosition(s)
		require.Error(t, err, s)
	}
}

func TestParsePositionLoosely(t *testing.T) {
	for in, want := range map[string]string{
		"1CC48468-E68A-11F1-86EC-02FC00000001:1-3:4-5": uuidA + ":1-5",
		uuidB + ":1,\n" + uuidA + ":5:1-2":             uuidA + ":1-2:5," + uuidB + ":1",
		" binlog.000001:4\n":                           "binlog.000001:4",
		"5-1-9, 0-1-2":                                 "0-1-2,5-1-9",
		uuidA + ":1-3," + uuidA + ":2-7":               uuidA + ":1-7",
	} {
		p, err := ParseLoosely(in)
		require.NoError(t, err)
		require.Equal(t, want, p.String())
	}
}

func TestPositionCompare(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
		ok   bool
	}{
		{"b.000001:4", "b.000001:4", 0, true},
		{"b.999999:9", "b.1000000:4", -1, true},
		{"b.000002:4", "b.000001:9", 1, true},
		{"b.000002:4", "c.000001:9", 0, false},
		{"b.000002:4#7", "b.000002:9#7", -1, true},
		{"b.000002:4", "b.000002:9#7", -1, true},
		{"b.000002:4#6", "b.000002:9#7", 0, false}, // two files of one name
		{"b.000002:4#6", "b.000001:9#7", 1, true},
		{uuidA + ":1-5", uuidA + ":1-5@b.1:4", 0, true},
		{uuidA + ":1-6", uuidA + ":1-5", 1, true},
		{uuidA + ":1-5", uuidA + ":1-5:tag:1", -1, true},
		{uuidA + ":1-5", uuidB + ":1-5", 0, false},
		{"0-1-5", "0-2-6", -1, true},
		{"0-1-5,1-1-1", "0-2-6", 0, false},
		{"0-1-5", "b.1:4", 0, false},
		{"@b.1:4", uuidA + ":1", -1, true},
	} {
		a, err := ParsePosition(c.a)
		require.NoError(t, err)
		b, err := ParsePosition(c.b)
		require.NoError(t, err)
		got, ok := a.Compare(b)
		require.Equal(t, c.ok, ok, "%s %s", a, b)
		require.Equal(t, c.want, got, "%s %s", a, b)
		back, _ := b.Compare(a)
		require.Equal(t, -c.want, back)
	}
}

// TestPositionGrows compares positions that grow by one transaction after another with go-mysql's sets, in and out of order.
func TestPositionGrows(t *testing.T) {
	p, err := ParsePosition(uuidA + ":1-5:8@bin.000001:4")
	require.NoError(t, err)
	oracle, err := mysql.ParseMysqlGTIDSet(uuidA + ":1-5:8")
	require.NoError(t, err)
	ids := map[string]SID{uuidA: p.mysql.sources[0].sid}
	b, err := parseUUID(uuidB)
	require.NoError(t, err)
	ids[uuidB] = SID{UUID: b}
	before := p
	for i, step := range []struct {
		uuid string
		gno  uint64
	}{{uuidA, 6}, {uuidA, 7}, {uuidB, 1}, {uuidA, 9}, {uuidB, 2}, {uuidB, 3}, {uuidB, 5}, {uuidB, 4}, {uuidA, 12}, {uuidA, 10}, {uuidA, 11}} {
		p = p.AfterGTID(&ID{SID: ids[step.uuid], GNO: step.gno}, Position{File: "bin.000001", Pos: uint64(100 + i)})
		require.NoError(t, oracle.Update(fmt.Sprintf("%s:%d", step.uuid, step.gno)))
		require.Equal(t, fmt.Sprintf("%s@bin.000001:%d", oracle, 100+i), p.String())
		require.Equal(t, oracle.Encode(), p.Set().Encode())
	}
	require.Equal(t, uuidA+":1-5:8@bin.000001:4", before.String(), "positions do not change")
	tagged := p.AfterGTID(&ID{SID: SID{UUID: b, Tag: "x"}, GNO: 1}, Position{File: "bin.000001", Pos: 9})
	require.NoError(t, oracle.Update(uuidB+":x:1"))
	require.Equal(t, oracle.Encode(), tagged.Set().Encode())
	require.Equal(t, uuidA+":9-12", must(ParseSet(uuidA+":1-12:x:1")).Minus(must(ParseSet(uuidA+":1-8:x:1-9"))).String())
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestMariaPositionGrows(t *testing.T) {
	p, err := ParsePosition("0-1-5,3-1-1")
	require.NoError(t, err)
	next := p.AfterMariaGTID(MariaID{0, 2, 6}, Position{File: "b.1", Pos: 9}).AfterMariaGTID(MariaID{1, 1, 1}, Position{File: "b.1", Pos: 10})
	require.Equal(t, "0-2-6,1-1-1,3-1-1@b.1:10", next.String())
	require.Equal(t, "0-1-5,3-1-1", p.String())
}

func FuzzParsePosition(f *testing.F) {
	for _, s := range []string{"binlog.000001:157", uuidA + ":1-5:7:t:9," + uuidB + ":1@b.1:4", "0-1-2,3-4-5@b.1:4", "@b.1:4", ":1", "0-1-1,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := ParsePosition(s); err == nil && p.String() != s {
			t.Fatalf("%q becomes %q", s, p)
		}
		if p, err := ParseLoosely(s); err == nil {
			if _, err := ParsePosition(p.String()); err != nil {
				t.Fatalf("%q becomes %q: %v", s, p, err)
			}
		}
	})
}

func BenchmarkPosition(b *testing.B) {
	p := must(ParsePosition(uuidA + ":1-5"))
	id := ID{SID: p.mysql.sources[0].sid, GNO: 5}
	b.ReportAllocs()
	for b.Loop() {
		id.GNO++
		p = p.AfterGTID(&id, Position{File: "bin.000001", Pos: 7})
	}
}

// FuzzGTIDSet compares GTID sets with go-mysql's, and checks what holds for sets.
func FuzzGTIDSet(f *testing.F) {
	f.Add(uuidA+":1-5:7:tag:9", uuidA+":3-6,"+uuidB+":1")
	f.Add(uuidB+":1-3:5-9223372036854775806", uuidB+":4")
	f.Add("0-1-57,3-4-5", "0-2-6")
	f.Fuzz(func(t *testing.T, x, y string) {
		a, errA := ParseSet(x)
		b, errB := ParseSet(y)
		if errA == nil {
			oracle, err := mysql.ParseMysqlGTIDSet(a.String())
			if err != nil {
				t.Fatalf("%s: go-mysql says %v", a, err)
			}
			if !bytes.Equal(oracle.Encode(), a.Encode()) {
				t.Fatalf("%s: %x, go-mysql has %x", a, a.Encode(), oracle.Encode())
			}
		}
		if errA == nil && errB == nil {
			only, common := a.Minus(b), a.Minus(a.Minus(b))
			union := common
			for _, src := range only.sources {
				union = union.withIntervals(src.sid, src.intervals)
			}
			if union.String() != a.String() || !only.Minus(a).Empty() || !common.Minus(b).Empty() || only.Minus(b).String() != only.String() {
				t.Fatalf("%s without %s is %s, and in both is %s", a, b, only, common)
			}
		}
		if set, err := parseMariaSet(x); err == nil {
			again, err := parseMariaSet(set.String())
			if err != nil || !again.includes(set) || !set.includes(again) {
				t.Fatalf("%s cannot be read back: %v", set, err)
			}
		}
	})
}
