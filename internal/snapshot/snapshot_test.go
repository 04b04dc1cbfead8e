package snapshot

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
)

func TestRecordKeepsEverything(t *testing.T) {
	r := &record{
		Version: recordVersion, Paused: true, Signals: []string{"a:1"},
		Loads: []*load{
			{Table: "a.b", ID: "x", State: Loading, Where: "id > 1", Rows: 3, Kept: true, Estimate: -1, Parts: []part{{To: Bound(`[1]`)}, {From: Bound(`[1,"a"]`), Done: true}}, Again: []again{{N: 2, Key: savedKey{{Kind: change.Int, Bits: 7}}}}},
			{Table: "a.c", State: Skipped},
		},
	}
	data, err := json.Marshal(r)
	require.NoError(t, err)
	got, err := parseRecord(data)
	require.NoError(t, err)
	assert.Equal(t, r, got)
}

func TestBrokenRecords(t *testing.T) {
	for data, want := range map[string]error{
		``:                             checkpoint.ErrBroken,
		`[]`:                           checkpoint.ErrBroken,
		`{"version":2}`:                checkpoint.ErrIncompatible,
		`{"version":1,"loads":[null]}`: checkpoint.ErrBroken,
		`{"version":1,"loads":[{"state":"done"}]}`:                                       checkpoint.ErrBroken,
		`{"version":1,"loads":[{"table":"a.b","again":[{"n":1,"key":[{"kind":200}]}]}]}`: checkpoint.ErrBroken,
	} {
		_, err := parseRecord([]byte(data))
		assert.ErrorIs(t, err, want, data)
		_, err = ReadStatus([]byte(data))
		assert.ErrorIs(t, err, want, data)
	}
}

func TestSavedKeys(t *testing.T) {
	key := []change.Value{
		change.NullValue(), change.BoolValue(true), change.IntValue(math.MinInt64), change.UintValue(math.MaxUint64), change.Float32Value(3.3), change.Float64Value(math.Inf(-1)),
		change.DecimalValue([]byte("10.00")), change.TextValue([]byte("é")), change.BytesValue([]byte{0, 255}), change.JSONValue([]byte(`{}`)),
	}
	saved := saveKey(key)
	data, err := json.Marshal(saved)
	require.NoError(t, err)
	var back savedKey
	require.NoError(t, json.Unmarshal(data, &back))
	assert.True(t, back.equal(saved))
	got, err := back.values()
	require.NoError(t, err)
	for i := range key {
		assert.Equal(t, key[i].Kind(), got[i].Kind())
		assert.Equal(t, key[i].Bytes(), got[i].Bytes())
		assert.Equal(t, key[i].Uint(), got[i].Uint())
	}
	_, err = savedKey{{Kind: change.Unavailable}}.values()
	assert.Error(t, err)
}

// Rows with different keys have different identities, of signs that need no quoting.
func TestIdentities(t *testing.T) {
	table := &change.Table{Key: []int{0, 1}}
	text := func(s string) change.Value { return change.TextValue([]byte(s)) }
	seen := map[string]bool{}
	for _, row := range [][]change.Value{
		{text("a"), text("b,c")},
		{text("a,b"), text("c")},
		{text(""), text("a")},
		{text("a"), text("")},
		{change.IntValue(-1), text("x")},
		{change.UintValue(1), text("x")},
		{change.BytesValue([]byte("a")), text("b")},
		{text("a"), text("b")},
		{text("é"), text("\"")},
		{text("A"), text("b")},
		{text("0123456789012345678901234567890123456789"), text("x")},
		{text("01234567890123456789012345678901234567890"), text("x")},
		{change.JSONValue([]byte("a")), text("x.y-Z")},
	} {
		ident, err := appendIdent(nil, table, 0, func(column int) (change.Value, error) { return row[column], nil })
		assert.NoError(t, err)
		id := string(ident)
		assert.Regexp(t, `^[A-Za-z0-9._,-]+$`, id)
		assert.False(t, seen[id], "%s twice", id)
		seen[id] = true
	}
	number, err := appendIdent(nil, &change.Table{}, 17, nil)
	assert.NoError(t, err)
	assert.Equal(t, "17", string(number), "without a key: its number")
}

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"a.b", "a.b", true},
		{"a.b", "a.bc", false},
		{"a.%", "a.bc", true},
		{"a.*", "a.bc", true},
		{"%.b", "a.b", true},
		{"a.b.c", "a.b.c", true},
		{"", "a.b", false},
	} {
		assert.Equal(t, c.want, match(c.pattern, c.name), "%s %s", c.pattern, c.name)
	}
}
