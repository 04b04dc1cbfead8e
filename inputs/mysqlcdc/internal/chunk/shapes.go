package chunk

import (
	"context"
	"fmt"
	"regexp"
	"sync"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/catalog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/resolve"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/row"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/shape"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// shapes are those of the tables as rows were read last. The catalogue is asked again when what SHOW CREATE TABLE says has changed.
type shapes struct {
	catalog *catalog.Catalog
	flavor  string

	mu      sync.Mutex
	schemas *resolve.Schemas               // guarded by mu
	known   map[statement.TableName]*table // guarded by mu
}

// table is how a table is read.
type table struct {
	statement.TableName
	create string
	layout *row.Layout
	def    *shape.Table
	key    key
	// transactional says that its engine has transactions: else a query sees what is not in the log yet.
	transactional bool
}

func newShapes(ctx context.Context, cfg Config, c *catalog.Catalog, flavor string) (*shapes, error) {
	defer c.Close()
	charsets, err := c.Charsets(ctx, flavor)
	if err != nil {
		return nil, err
	}
	return &shapes{
		catalog: c, flavor: flavor, known: map[statement.TableName]*table{},
		schemas: &resolve.Schemas{
			Source: cfg.Source, Catalog: c, Flavor: flavor, Keys: cfg.Keys, Charsets: charsets, Values: cfg.Values, Warn: cfg.Warn,
		},
	}, nil
}

// counter is what of SHOW CREATE TABLE changes with the rows.
var counter = regexp.MustCompile(`(?m)^(\) ENGINE=.*?) AUTO_INCREMENT=\d+`) //nolint:gochecknoglobals // a constant

// of returns how a table is read whose SHOW CREATE TABLE is this one. The caller keeps the table locked, so that it stays as it is.
func (s *shapes) of(ctx context.Context, n statement.TableName, create string) (*table, error) {
	create = counter.ReplaceAllString(create, "$1")
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.known[n]
	if old != nil && old.create == create {
		return old, nil
	}
	defer s.catalog.Close() // shapes change seldom
	def, err := s.catalog.Table(ctx, s.flavor, n.DB, n.Table)
	if err != nil {
		return nil, err
	}
	if def == nil {
		return nil, fmt.Errorf("%s.%s: %w", n.DB, n.Table, snapshot.ErrGone)
	}
	t := &table{TableName: n, create: create, def: def}
	if t.layout, err = s.schemas.LayoutOf(ctx, n, def); err != nil {
		return nil, err
	}
	if old != nil && old.layout.Table.Fingerprint() == t.layout.Table.Fingerprint() {
		t.layout.Table = old.layout.Table
	}
	if t.key, err = readKey(ctx, s.catalog, n); err != nil {
		return nil, err
	}
	if err := t.key.bind(t); err != nil {
		return nil, err
	}
	if t.transactional, err = s.catalog.Transactional(ctx, n.DB, n.Table); err != nil {
		return nil, err
	}
	s.known[n] = t
	return t, nil
}
