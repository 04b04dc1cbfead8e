//go:build !unix

package main

import "errors"

var errUnix = errors.New("not on this operating system: start the process again by hand")

func interruptSelf() error { return errUnix }
func again() error         { return errUnix }
func (p *plane) hangUp()   {}
