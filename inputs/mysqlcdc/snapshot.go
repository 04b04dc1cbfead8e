package mysqlcdc

import (
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/chunk"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// newSnapshots returns what reads the tables of the server.
func newSnapshots(cfg config, logger *service.Logger) *chunk.Source {
	return chunk.New(chunk.Config{
		Server: cfg.server, NoGTIDs: cfg.useGTID == useGTIDNever, Filter: cfg.filter, Keys: cfg.keys, Values: cfg.values, Source: cfg.source,
		Warn: logger.Warnf,
	})
}

// Snapshots returns what reads the tables that the server has already.
func (l *mysqlLog) Snapshots() snapshot.Source { return l.snapshots }
