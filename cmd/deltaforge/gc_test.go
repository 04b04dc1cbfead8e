package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestPace(t *testing.T) {
	var p pace
	var cycles uint64
	step := func(n, live uint64) int {
		cycles += n
		percent, _ := p.next(cycles, live)
		return percent
	}
	assert.Equal(t, 100, step(1, 10<<20), "one collection now and then is no load")
	assert.Equal(t, 700, step(9, 20<<20), "busy: up to busyHeap")
	assert.Equal(t, 700, step(1, 21<<20), "small changes are not followed")
	assert.Equal(t, 300, step(2, 40<<20), "more is live")
	assert.Equal(t, 100, step(2, 500<<20), "much is live: as by default")
	assert.Equal(t, 800, step(3, 1<<20), "bounded")
	for range calmPeriods - 1 {
		assert.Equal(t, 800, step(0, 1<<20), "a pause is not the end")
	}
	assert.Equal(t, 100, step(0, 1<<20), "idle again")
	percent, changed := p.next(cycles, 1<<20)
	assert.Equal(t, 100, percent)
	assert.False(t, changed)
}
