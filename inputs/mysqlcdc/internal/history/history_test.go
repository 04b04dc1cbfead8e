package history

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/shape"
)

// TestDamagedHistory: each kind of damage has its name, and the way out.
func TestDamagedHistory(t *testing.T) {
	h := &History{}
	pos := func(n uint64) *gtid.Position { return &gtid.Position{File: "bin.000001", Pos: n} }
	h.Begin("server", pos(10), shape.State{"d": {Tables: map[string]*shape.Table{"t": {Columns: []shape.Column{{Name: "a", Type: "int"}}}}}})
	for n := range uint64(3) {
		require.NoError(t, h.Add(pos(20+10*n), []shape.Change{{DB: "d", Table: fmt.Sprintf("t%d", n), Def: &shape.Table{}}}))
	}
	record, _, ok, err := h.Record()
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, 5, bytes.Count(record, []byte("\n")))
	require.NoError(t, (&History{}).Restore(record))

	mangle := func(at int) []byte { m := bytes.Clone(record); m[at] ^= 1; return m }
	lines := bytes.SplitAfter(record, []byte("\n"))
	future, err := appendLine(nil, historyHeader{Version: historyVersion + 1, Kind: Kind})
	require.NoError(t, err)
	for name, c := range map[string]struct {
		record []byte
		is     error
		text   string
	}{
		"last entry":      {mangle(len(record) - 5), checkpoint.ErrBroken, "entry 3 of 3: its checksum is wrong"},
		"last entry torn": {record[:len(record)-5], checkpoint.ErrBroken, "entry 3 of 3: it ends in the middle"},
		"an entry":        {mangle(len(record) - len(lines[4]) - 5), checkpoint.ErrBroken, "entry 2 of 3: its checksum is wrong"},
		"base":            {mangle(len(lines[0]) + 30), checkpoint.ErrBroken, "its base: its checksum is wrong"},
		"header":          {mangle(12), checkpoint.ErrBroken, "its header: its checksum is wrong"},
		"nothing":         {nil, checkpoint.ErrBroken, "its header: it ends in the middle"},
		"something else":  {[]byte(`{"version":1}`), checkpoint.ErrBroken, "its header"},
		"later version":   {future, checkpoint.ErrIncompatible, "schema history of version 2"},
	} {
		err := (&History{}).Restore(c.record)
		require.ErrorIs(t, err, c.is, name)
		require.ErrorContains(t, err, c.text, name)
		require.ErrorContains(t, err, "`deltaforge checkpoint reset-schema KEY`", name)
	}

	// A position before the base: nothing is known about it.
	_, err = h.At(pos(5))
	require.ErrorIs(t, err, checkpoint.ErrIncompatible)
	require.ErrorContains(t, err, "begins at bin.000001:10 and does not know the tables as they were at bin.000001:5")
	state, err := h.At(pos(39))
	require.NoError(t, err)
	require.Nil(t, state.Table("d", "t2"), "after the position")
	require.NotNil(t, state.Table("d", "t1"))
}

// TestCompaction: entries become part of the base when a position after them is saved, and not before.
func TestCompaction(t *testing.T) {
	h := &History{}
	pos := func(n int) *gtid.Position { return &gtid.Position{File: "bin.000001", Pos: uint64(n)} }
	h.Begin("server", pos(0), shape.State{})
	for n := 1; n <= 2*maxEntries; n++ {
		require.NoError(t, h.Add(pos(n), []shape.Change{{DB: "d", Table: fmt.Sprintf("t%d", n%7), Def: &shape.Table{Collation: fmt.Sprint(n)}}}))
	}
	lines := func() int {
		h.version++
		record, _, _, err := h.Record()
		require.NoError(t, err)
		r := &History{}
		require.NoError(t, r.Restore(record))
		for _, at := range []int{maxEntries + 1, 2 * maxEntries} {
			want := shape.State{}
			for n := 1; n <= at; n++ {
				want.Apply([]shape.Change{{DB: "d", Table: fmt.Sprintf("t%d", n%7), Def: &shape.Table{Collation: fmt.Sprint(n)}}})
			}
			r := &History{}
			require.NoError(t, r.Restore(record))
			got, err := r.At(pos(at))
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		return bytes.Count(record, []byte("\n"))
	}
	require.Equal(t, 2+2*maxEntries, lines())
	h.Confirm(pos(maxEntries + 1))
	require.Equal(t, 2+maxEntries-1, lines())
}

func FuzzHistory(f *testing.F) {
	h := &History{}
	h.Begin("server", &gtid.Position{File: "bin.000001", Pos: 4}, shape.State{"d": {Tables: map[string]*shape.Table{"t": {}}}})
	if err := h.Add(&gtid.Position{File: "bin.000001", Pos: 9}, []shape.Change{{DB: "d", Table: "t"}}); err != nil {
		f.Fatal(err)
	}
	record, _, _, err := h.Record()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(record)
	f.Fuzz(func(t *testing.T, data []byte) {
		h := &History{}
		if err := h.Restore(data); err != nil {
			if !errors.Is(err, checkpoint.ErrBroken) && !errors.Is(err, checkpoint.ErrIncompatible) {
				t.Fatal(err)
			}
			return
		}
		h.version++
		again, _, _, err := h.Record()
		if err != nil {
			t.Fatal(err)
		}
		back := &History{}
		if err := back.Restore(again); err != nil {
			t.Fatalf("what was read cannot be read back: %v\n%s", err, again)
		}
		for _, pos := range []*gtid.Position{h.basePos, {File: "bin.000001", Pos: 100}} {
			was, err := h.At(pos)
			is, errBack := back.At(pos)
			if fmt.Sprint(err) != fmt.Sprint(errBack) || !reflect.DeepEqual(was, is) {
				t.Fatalf("%+v (%v) at %s has become %+v (%v)", was, err, pos, is, errBack)
			}
		}
	})
}
