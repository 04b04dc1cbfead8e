package livecopy

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type keeper struct{ name string }

func (*keeper) Begin(context.Context, string, string) error { return nil }
func (*keeper) End(context.Context, string, string) error   { return nil }

// A source waits for an output that was made, until it is begun, or for a while: one that was made and never begun holds nothing up for ever.
func TestKeepers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, a, b := New(), &keeper{"a"}, &keeper{"b"}
		none, err := p.Keepers(t.Context())
		require.NoError(t, err)
		assert.Empty(t, none)

		start := time.Now()
		p.Expect(a)
		p.Expect(b)
		time.AfterFunc(time.Second, func() { p.Join(a); p.Join(a) })
		got, err := p.Keepers(t.Context())
		require.NoError(t, err)
		assert.Equal(t, []Keeper{a}, got)
		assert.Equal(t, expectFor, time.Since(start))

		p.Expect(b)
		time.AfterFunc(time.Second, func() { p.Join(b) })
		got, err = p.Keepers(t.Context())
		require.NoError(t, err)
		assert.Equal(t, []Keeper{a, b}, got)
		assert.Equal(t, expectFor+time.Second, time.Since(start))

		p.Leave(a)
		got, err = p.Keepers(t.Context())
		require.NoError(t, err)
		assert.Equal(t, []Keeper{b}, got)

		p.Expect(a)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = p.Keepers(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}
