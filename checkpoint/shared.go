package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// ErrFenced means that another instance has taken over a position. This one stops, for good: what it would save, the other one saves.
var ErrFenced = errors.New("fenced")

// server is where values are kept that several processes reach: see the packages in internal.
type server interface {
	// Claim makes a key this instance's.
	Claim(ctx context.Context, key string) error
	// Write sets the value of a key that was claimed; nil: none. It reports false, and changes nothing, when another instance has claimed the key since.
	Write(ctx context.Context, key string, value []byte) (mine bool, err error)
	// Peek returns the value of a key, nil if there is none. It claims nothing.
	Peek(ctx context.Context, key string) ([]byte, error)
	// Keys returns the keys that have a value, in order.
	Keys(ctx context.Context) ([]string, error)
	Close() error
	// String says where it is.
	String() string
}

// Shared is a Store in a server. The instance that came last has a key: with its first save it takes the key over, and what an earlier one saves after that
// is refused with ErrFenced.
type Shared struct {
	server
	mu      sync.Mutex
	claimed map[string]bool // guarded by mu
}

func newShared(s server) *Shared { return &Shared{server: s, claimed: map[string]bool{}} }

// claim makes a key this instance's, unless it has been already.
func (s *Shared) claim(ctx context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.claimed[key] {
		return nil
	}
	err := s.Claim(ctx, key)
	s.claimed[key] = err == nil
	return err
}

// Get implements Store. It takes nothing over.
func (s *Shared) Get(ctx context.Context, key string) ([]byte, error) {
	value, err := s.Peek(ctx, key)
	if err == nil && value == nil {
		err = ErrNotFound
	}
	return value, err
}

// Set implements Store.
func (s *Shared) Set(ctx context.Context, key string, value []byte) error {
	if err := s.claim(ctx, key); err != nil {
		return err
	}
	mine, err := s.Write(ctx, key, value)
	if err == nil && !mine {
		err = fmt.Errorf("%w: another instance of the pipeline has taken over key %q in the %s; this one stops, and goes on from there when it is started again",
			ErrFenced, key, s)
	}
	return err
}

// Add is Set for a key that must not exist; it reports false when it does.
func (s *Shared) Add(ctx context.Context, key string, value []byte) (added bool, err error) {
	if _, err := s.Get(ctx, key); !errors.Is(err, ErrNotFound) {
		return false, err
	}
	return true, s.Set(ctx, key, value)
}

// Delete removes a key, whoever uses it: a source that does is fenced. It returns ErrNotFound if the key is not there.
func (s *Shared) Delete(ctx context.Context, key string) error {
	if _, err := s.Get(ctx, key); err != nil {
		return err
	}
	return s.Set(ctx, key, nil)
}
