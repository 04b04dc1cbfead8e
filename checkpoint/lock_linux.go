package checkpoint

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"

	"golang.org/x/sys/unix"
)

// keyLocks locks keys through byte ranges of one file: a key's range is one byte at the offset of its hash. The locks
// belong to the open file (OFD locks, Linux fcntl(2)), so they hold between processes and inside one, and end with it.
type keyLocks struct{ f *os.File }

func openKeyLocks(path string) (*keyLocks, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, fmt.Errorf("opening lock file: %w", err)
	}
	return &keyLocks{f: f}, nil
}

func keyRange(key string) unix.Flock_t {
	h := fnv.New64a()
	_, _ = h.Write([]byte(key)) // never fails
	return unix.Flock_t{Type: unix.F_WRLCK, Start: int64(h.Sum64() >> 2), Len: 1}
}

func (l *keyLocks) acquire(key string) error {
	r := keyRange(key)
	err := unix.FcntlFlock(l.f.Fd(), unix.F_OFD_SETLK, &r)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%w by a running source: stop it, or give this one another checkpoint key", ErrLocked)
	}
	return err
}

func (l *keyLocks) isHeld(key string) (bool, error) {
	r := keyRange(key)
	if err := unix.FcntlFlock(l.f.Fd(), unix.F_OFD_GETLK, &r); err != nil {
		return false, err
	}
	return r.Type != unix.F_UNLCK, nil
}

func (l *keyLocks) close() error { return l.f.Close() }
