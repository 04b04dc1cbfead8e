package main

import (
	"fmt"
	"runtime/debug"
	"time"
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
	defer func() {
		if r := recover(); r != nil {
			p.log.Logger().Error(fmt.Sprintf("Panic in the %s: %v", component, r), "error", fmt.Sprint(r), "stack", string(debug.Stack()))
			p.panics.Load().Incr(1, component)
		}
	}()
	p.panics.Load().Incr(0, component) // the series is there before the first panic; a test plants its panics here
	f()
	return true
}
