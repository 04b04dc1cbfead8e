package redisout

import (
	"slices"

	"github.com/deltaforge/deltaforge/internal/change"
)

// columns is what a hash of a table's rows can have.
type columns struct {
	table *change.Table // as the newest event has it
	gone  []string      // columns that it had, and has no longer
}

// gone returns the columns that a table has had since the process started, and has no longer.
func (b *builder) gone(t *change.Table) []string {
	name := t.FullName()
	c := b.columns[name]
	if c == nil {
		if len(b.columns) >= maxStreamsNamed {
			clear(b.columns)
		}
		c = &columns{table: t}
		b.columns[name] = c
	}
	if c.table == t {
		return c.gone
	}
	var gone []string
	add := func(column string) {
		if t.Column(column) < 0 && !slices.Contains(gone, column) {
			gone = append(gone, column)
		}
	}
	for _, column := range c.gone {
		add(column)
	}
	for i := range c.table.Columns {
		add(c.table.Columns[i].Name)
	}
	c.table, c.gone = t, gone
	return gone
}
