package servers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// reserved are the locked files of the ports that FreePort has returned. They are open until the process ends, which ends the locks.
var reserved struct { //nolint:gochecknoglobals // a port is the machine's
	mu    sync.Mutex
	files []*os.File
}

// reserve takes a port for this process, and reports whether it was to be had.
func reserve(port int) (bool, error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("deltaforge-ports-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, fmt.Errorf("reserving a port: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(port)), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return false, fmt.Errorf("reserving a port: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		err = errors.Join(f.Close(), unlessTaken(err))
		return false, err
	}
	reserved.mu.Lock()
	defer reserved.mu.Unlock()
	reserved.files = append(reserved.files, f)
	return true, nil
}

func unlessTaken(err error) error {
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil
	}
	return fmt.Errorf("reserving a port: %w", err)
}
