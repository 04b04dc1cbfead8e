package checkpoint

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// ErrLost means that the store has lost what was saved under the key. An error that wraps it wraps ErrBroken, too.
var ErrLost = errors.New("the store has lost what was saved")

// marks is the file beside the store that says which keys it has: a line for each key that was saved for the first time, or deleted. With
// it, a new store is told from one that was emptied, replaced, or restored without its log. If both files are lost, that is not possible.
type marks struct{ path string }

const (
	markSaved   = '+'
	markDeleted = '-'
)

// has reports whether a key was saved, and not deleted since.
func (m marks) has(key string) (bool, error) {
	data, err := os.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading the keys of the store: %w", err)
	}
	want, err := json.Marshal(key)
	if err != nil {
		return false, err
	}
	saved := false
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		if line := lines.Bytes(); len(line) > 1 && bytes.Equal(line[1:], want) {
			saved = line[0] == markSaved
		}
	}
	return saved, nil
}

// add notes what became of a key, unless that is what the file says.
func (m marks) add(mark byte, key string) (err error) {
	if has, err := m.has(key); err != nil || has == (mark == markSaved) {
		return err
	}
	line, err := json.Marshal(key)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(m.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, fileMode)
	if err != nil {
		return fmt.Errorf("writing the keys of the store: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// A line break before it as well: what a crash has left of another line must not spoil this one.
	if _, err := f.Write(append(append([]byte{'\n', mark}, line...), '\n')); err != nil {
		return fmt.Errorf("writing the keys of the store: %w", err)
	}
	return f.Sync()
}
