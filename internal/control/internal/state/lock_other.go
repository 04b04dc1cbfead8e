//go:build !unix

package state

import (
	"os"
)

// lockPath makes the file; this system has no lock that ends with the process.
func lockPath(path string) (*os.File, error) { return os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) }
