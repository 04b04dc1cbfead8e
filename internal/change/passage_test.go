package change

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
)

// TestPassage: the first output that gets a batch is the end of the processors; what comes later, or a batch without a passage, is nothing.
func TestPassage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p Passage
		_, ok := p.Time()
		assert.False(t, ok)
		batch := service.MessageBatch{p.With(service.NewMessage(nil)), service.NewMessage(nil)}
		Reached(nil)
		Reached(batch[1:])
		_, ok = p.Time()
		assert.False(t, ok)
		first := time.Now()
		Reached(batch)
		time.Sleep(time.Second)
		Reached(batch)
		at, ok := p.Time()
		assert.True(t, ok)
		assert.True(t, first.Equal(at))
	})
}
