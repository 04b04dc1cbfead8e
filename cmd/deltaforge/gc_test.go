package main

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestPace(t *testing.T) {
	p := pace{limit: math.MaxInt64}
	var cycles uint64
	step := func(n, live uint64) bool {
		cycles += n
		return p.next(cycles, live)
	}
	assert.False(t, step(1, 10<<20), "one collection now and then is no load")
	assert.True(t, step(9, 20<<20))
	assert.Equal(t, pace{busy: true, limit: busyMemory, cycles: 10}, p)
	assert.False(t, step(1, 21<<20), "still busy")
	assert.True(t, step(2, 500<<20), "much is live: no more is collected than needed")
	assert.EqualValues(t, 1500<<20, p.limit)
	assert.False(t, step(2, 400<<20), "small changes are not followed")
	assert.True(t, step(3, 1<<20))
	assert.EqualValues(t, busyMemory, p.limit, "no less than the bound")
	for range calmPeriods - 1 {
		assert.False(t, step(0, 1<<20), "a pause is not the end")
	}
	assert.True(t, step(0, 1<<20), "idle again")
	assert.False(t, p.busy)
	assert.EqualValues(t, math.MaxInt64, p.limit)
	assert.False(t, step(0, 1<<20))
}
