// Package unixonly does not compile on Windows: by it a test shows that it would notice.
package unixonly

import "syscall"

// Kill is syscall.Kill.
func Kill(pid int) error { return syscall.Kill(pid, syscall.SIGTERM) }
