package typematrix_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/typematrix"
)

func TestDifferences(t *testing.T) {
	for _, c := range []struct {
		want, got string
		differ    []string
	}{
		{`{"a":1,"b":[1.0,{"c":null}]}`, `{"b":[1,{"c":null}],"a":1e0}`, nil},
		{`{"a":{"b":1}}`, `{"a":{"b":2}}`, []string{"a.b: 1, here 2"}},
		{`{"a":1,"b":2}`, `{"a":"1"}`, []string{`a: 1, here "1"`, "b: 2, here nothing"}},
		{`{}`, `{"a":null}`, []string{"a: nothing, here null"}},
		{`[1,2]`, `[1]`, []string{": [1,2], here [1]"}},
		{`9007199254740993`, `9007199254740992`, []string{": 9007199254740993, here 9007199254740992"}},
		{`{"fields":[{"field":"a","type":1},{"field":"b"}]}`, `{"fields":[{"field":"b"},{"field":"a","type":2}]}`, []string{"fields.a.type: 1, here 2"}},
		{`null`, `false`, []string{": null, here false"}},
	} {
		got, err := typematrix.Differences([]byte(c.want), []byte(c.got))
		require.NoError(t, err)
		assert.Equal(t, c.differ, got, c.want)
	}
	got, err := typematrix.Differences(nil, []byte("null"))
	require.NoError(t, err)
	assert.Len(t, got, 1, "Kafka's null is not null")
	_, err = typematrix.Differences([]byte("{"), nil)
	require.Error(t, err)
}
