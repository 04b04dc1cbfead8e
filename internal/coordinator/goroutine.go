package coordinator

import (
	"fmt"
	"runtime/debug"
)

// goSafe starts a goroutine of ours. A panic in it is counted, logged with its stack, and becomes the goroutine's error,
// so that it ends this session and no other pipeline. The result of run goes to done, on the same goroutine.
func goSafe(in *Input, component string, run func() error, done func(error)) {
	go func() { done(protect(in, component, run)) }()
}

// protect calls run and turns a panic into an error.
func protect(in *Input, component string, run func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			in.st.panics.Incr(1, component)
			in.out.With("error", fmt.Sprint(r), "stack", string(debug.Stack())).
				Errorf("Panic in the %s of %s: %v", component, in.cfg.Name, r)
			err = fmt.Errorf("panic in the %s: %v", component, r)
		}
	}()
	return run()
}
