package main

import (
	"fmt"
	"time"

	"github.com/deltaforge/deltaforge/internal/guard"
)

// goOn calls f, and calls it again when it has panicked.
func (p *plane) goOn(component string, f func()) {
	for !p.protect(component, f) {
		<-time.After(time.Second)
	}
}

// protect calls f. A panic in it is logged with its stack and, once there are numbers, counted, and the process goes on. It
// reports whether there was none.
func (p *plane) protect(component string, f func()) (ended bool) {
	return guard.Do(component, func(n int64) { p.panics.Load().Incr(n, component) }, func(caught *guard.Panic) {
		p.log.Logger().Error(caught.Line(), "error", fmt.Sprint(caught.Value), "stack", caught.Stack)
	}, func() error { f(); return nil }) == nil
}
