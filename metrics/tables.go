package metrics

import (
	"maps"
	"sync"
)

// otherTables is the table label of every table above the bound.
const otherTables = "__other__"

// tableBound keeps the number of values of the label table, over all pipelines, under a bound.
type tableBound struct {
	limit    int
	onExceed func() // called once

	mu       sync.Mutex
	seen     map[string]bool // guarded by mu
	exceeded bool            // guarded by mu
}

// keep makes room for others by forgetting every table but these.
func (b *tableBound) keep(tables map[string]bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.DeleteFunc(b.seen, func(table string, _ bool) bool { return !tables[table] })
}

// admit returns the label value for a table.
func (b *tableBound) admit(table string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case table == "" || b.seen[table]:
		return table
	case len(b.seen) < b.limit:
		b.seen[table] = true
		return table
	case !b.exceeded:
		b.exceeded = true
		b.onExceed()
	}
	return otherTables
}
