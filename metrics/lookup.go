package metrics

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
)

// lookup finds the handle for a list of label values without locking or allocating: the engine asks for it each time
// a component increments a stat that has labels. It only grows, unless forgetBefore empties it.
type lookup[T any] struct {
	generation atomic.Uint64 // see forgetBefore

	seed  maphash.Seed
	heads atomic.Pointer[[]atomic.Pointer[node[T]]] // hash chains; the number is a power of two
	mu    sync.Mutex
	size  int // guarded by mu
}

// node is immutable once it is reachable.
type node[T any] struct {
	values []string
	handle T
	next   *node[T]
}

func newLookup[T any]() *lookup[T] {
	l := &lookup[T]{seed: maphash.MakeSeed()}
	heads := make([]atomic.Pointer[node[T]], 1)
	l.heads.Store(&heads)
	return l
}

// get returns the handle for values and calls create, once and under the lock, when there is none.
func (l *lookup[T]) get(values []string, create func(values []string) T) T {
	if n := l.find(*l.heads.Load(), values); n != nil {
		return n.handle
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	heads := *l.heads.Load()
	if n := l.find(heads, values); n != nil {
		return n.handle
	}
	if l.size >= 4*len(heads) {
		heads = l.grow(heads)
	}
	kept := slices.Clone(values)
	handle := create(kept)
	l.push(heads, kept, handle)
	l.size++
	return handle
}

// forgetBefore empties the lookup when it has handles of an earlier generation.
func (l *lookup[T]) forgetBefore(generation uint64) {
	if l.generation.Load() == generation {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.generation.Load() >= generation {
		return
	}
	heads := make([]atomic.Pointer[node[T]], 1)
	l.heads.Store(&heads)
	l.size = 0
	l.generation.Store(generation)
}

func (l *lookup[T]) find(heads []atomic.Pointer[node[T]], values []string) *node[T] {
	for n := heads[l.bucket(heads, values)].Load(); n != nil; n = n.next {
		if slices.Equal(n.values, values) {
			return n
		}
	}
	return nil
}

func (l *lookup[T]) bucket(heads []atomic.Pointer[node[T]], values []string) uint64 {
	if len(heads) == 1 {
		return 0
	}
	var h uint64
	for _, v := range values {
		h = h*0x9e3779b97f4a7c15 ^ maphash.String(l.seed, v)
	}
	return h & uint64(len(heads)-1)
}

func (l *lookup[T]) push(heads []atomic.Pointer[node[T]], values []string, handle T) {
	head := &heads[l.bucket(heads, values)]
	head.Store(&node[T]{values: values, handle: handle, next: head.Load()})
}

// grow publishes a table eight times the size. Readers of the old one still find what was in it.
func (l *lookup[T]) grow(old []atomic.Pointer[node[T]]) []atomic.Pointer[node[T]] {
	heads := make([]atomic.Pointer[node[T]], 8*len(old))
	for i := range old {
		for n := old[i].Load(); n != nil; n = n.next {
			l.push(heads, n.values, n.handle)
		}
	}
	l.heads.Store(&heads)
	return heads
}
