package step

import (
	"strings"
	"sync"

	"github.com/deltaforge/deltaforge/internal/change"
)

// Column is a column of a derived table, and the index of the column that it is of; -1 for one of none.
type Column struct {
	change.Column
	From int
}

// Shapes keeps the tables that a processor has derived, by the table they are of and their columns: rows with the same columns share one. It
// may be used by many goroutines. The zero Shapes is ready.
type Shapes struct {
	mu     sync.Mutex
	tables map[spelling]*change.Table // guarded by mu
}

type spelling struct {
	of    *change.Table
	names string
}

// Table returns the table with other columns. If a column of the key is not among them, it has no key.
func (s *Shapes) Table(of *change.Table, columns []Column) *change.Table {
	var b strings.Builder
	for _, c := range columns {
		b.WriteString(c.Name)
		b.WriteByte(0)
		b.WriteString(c.Type)
		b.WriteByte(0)
	}
	name := spelling{of, b.String()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t, ok := s.tables[name]; ok {
		return t
	}
	all, key := make([]change.Column, len(columns)), make([]int, len(of.Key))
	for i, c := range columns {
		all[i] = c.Column
		for k, from := range of.Key {
			if c.From == from {
				key[k] = i
			}
		}
	}
	for _, from := range of.Key {
		found := false
		for _, c := range columns {
			found = found || c.From == from
		}
		if !found {
			key = nil
		}
	}
	t := of.With(all, key)
	if s.tables == nil || len(s.tables) >= most {
		s.tables = map[spelling]*change.Table{}
	}
	s.tables[name] = t
	return t
}
