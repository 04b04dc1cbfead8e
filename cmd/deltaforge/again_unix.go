//go:build unix

package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// interruptSelf ends the process as an operator would.
func interruptSelf() error { return syscall.Kill(os.Getpid(), syscall.SIGTERM) }

// again replaces the process by a new one of the same command line. It returns only when that is not possible.
func again() error {
	self, err := os.Executable()
	if err == nil {
		err = syscall.Exec(self, os.Args, os.Environ())
	}
	return fmt.Errorf("starting again: %w", err)
}

// hangUp makes SIGHUP end the process as SIGTERM does: a terminal that closes must not cut a pipeline off.
func (p *plane) hangUp() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	go p.goOn("signals", func() { // ends with the process
		<-signals
		_ = interruptSelf()
	})
}
