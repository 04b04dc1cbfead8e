package guard

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDo(t *testing.T) {
	var counted []int64
	var told []*Panic
	count := func(n int64) { counted = append(counted, n) }
	tell := func(p *Panic) { told = append(told, p) }
	failed := errors.New("failed")
	require.ErrorIs(t, Do("x", count, tell, func() error { return failed }), failed)
	assert.Equal(t, []int64{0}, counted)
	assert.Empty(t, told)

	err := Do("x", count, tell, func() error { panic("on purpose") })
	require.EqualError(t, err, "panic in the x: on purpose")
	assert.Equal(t, []int64{0, 0, 1}, counted)
	require.Len(t, told, 1)
	assert.Equal(t, "Panic in the x: on purpose", told[0].Line())
	assert.Contains(t, told[0].Stack, "guard_test.go")

	// What is called with the zero may panic, too: it is a test's plant.
	err = Do("x", func(n int64) {
		if n == 0 {
			panic("planted")
		}
	}, nil, func() error { return nil })
	require.EqualError(t, err, "panic in the x: planted")
	require.EqualError(t, Do("x", nil, nil, func() error { panic(1) }), "panic in the x: 1")
}
