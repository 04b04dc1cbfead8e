// Package guard keeps a panic from ending the process, and every pipeline in it: it becomes an error of the part that panicked. Each goroutine of
// ours, and each function of ours that somebody else calls on one of theirs, begins with it.
package guard

import (
	"fmt"
	"runtime/debug"
)

// Panic is a panic that was caught.
type Panic struct {
	Component string
	Value     any
	Stack     string
}

// Error says where it was and what it said.
func (p *Panic) Error() string { return fmt.Sprintf("panic in the %s: %v", p.Component, p.Value) }

// Line is what the log says of it; the value and the stack go beside it, as error and stack.
func (p *Panic) Line() string { return fmt.Sprintf("Panic in the %s: %v", p.Component, p.Value) }

// Do calls f, and returns its error, or the panic as one. Count is called with 0 before, so that the series is there before the first panic,
// and with 1 for a panic, which is then told. Both may be nil.
func Do(component string, count func(n int64), tell func(*Panic), f func() error) (err error) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		p := &Panic{component, v, string(debug.Stack())}
		err = p
		if count != nil {
			count(1)
		}
		if tell != nil {
			tell(p)
		}
	}()
	if count != nil {
		count(0) // a test plants its panics here
	}
	return f()
}
