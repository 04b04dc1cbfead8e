package flatten

import (
	"strings"
	"sync"

	"github.com/deltaforge/deltaforge/internal/change"
)

// spellings keeps the tables that were made, by the table they were made of and their columns: rows with the same fields share one.
type spellings struct {
	mu     sync.Mutex
	tables map[spelling]*change.Table // guarded by mu
}

type spelling struct {
	of    *change.Table
	names string
}

// mostTables bounds how many are kept.
const mostTables = 4096

func (s *spellings) table(of *change.Table, columns []made) *change.Table {
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
			if c.from == from {
				key[k] = i
			}
		}
	}
	for _, from := range of.Key { // an image without it (MINIMAL): then the event has no key
		found := false
		for _, c := range columns {
			found = found || c.from == from
		}
		if !found {
			key = nil
		}
	}
	t := of.With(all, key)
	if s.tables == nil || len(s.tables) >= mostTables {
		s.tables = map[spelling]*change.Table{}
	}
	s.tables[name] = t
	return t
}
