package mysqlcdc

import (
	"context"
	"fmt"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/chunk"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/wire"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// parseSnapshot takes over what the field snapshot says.
func (c *config) parseSnapshot() error {
	c.snapshotWanted = c.coordinator.Snapshot.Mode != snapshot.Never
	dsn := c.coordinator.Snapshot.DSN
	if dsn == "" {
		return nil
	}
	named, err := wire.ParseDSN(dsn)
	if err != nil {
		return fmt.Errorf("snapshot.%w", err)
	}
	replica := c.server.Like(named)
	c.replica = &replica
	return nil
}

// newSnapshots returns what reads the tables of the server, and has the source's rows read in the same way.
func newSnapshots(cfg config, logger *service.Logger) *chunk.Source {
	c := chunk.Config{
		Server: cfg.server, Replica: cfg.replica, NoGTIDs: cfg.useGTID == useGTIDNever, Filter: cfg.filter, Keys: cfg.keys, Values: cfg.values, Source: cfg.source,
		Warn: logger.Warnf,
	}
	if cfg.source != nil {
		cfg.source.Rows = &chunk.Aside{Config: c}
	}
	return chunk.New(c)
}

// Snapshots returns what reads the tables that the server has already.
func (l *mysqlLog) Snapshots() snapshot.Source { return l.snapshots }

// endOfVisible returns a position such that a query sees all that is before it, and the log has all that is after it. The end of the log is
// none: transactions are in the log before they are visible.
func (s *session) endOfVisible(ctx context.Context) (*gtid.Position, error) {
	switch {
	case s.flavor == product.MariaDB:
		p, err := chunk.MariaVisible(ctx, s.catalog)
		if err != nil {
			return nil, err
		}
		return s.withMariaGTIDs(ctx, p)
	case !s.useGTID:
		return s.log.snapshots.Visible(ctx)
	}
	p, err := s.endOfLog(ctx)
	if err != nil {
		return nil, err
	}
	if p.Set().Empty() {
		return s.earliest(ctx)
	}
	// The place is after transactions that the set lacks.
	p = p.OnlyGTIDs()
	return p, s.followGTIDs(ctx, p)
}
