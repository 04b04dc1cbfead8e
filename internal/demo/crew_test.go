package demo

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A panic in one of the crew is its error, and the others go on.
func TestPanicInTheCrew(t *testing.T) {
	c := newCrew()
	worked := make(chan struct{})
	c.start(func() error { panic("planted") })
	c.start(func() error { close(worked); return nil })
	err := <-c.failed
	require.ErrorContains(t, err, "panic: planted")
	require.ErrorContains(t, err, "demo.TestPanicInTheCrew", "the stack")
	<-worked
	c.wait(time.Minute)
}
