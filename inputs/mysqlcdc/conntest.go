package mysqlcdc

import (
	"context"
	"errors"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/catalog"
	"github.com/deltaforge/deltaforge/internal/coordinator"
)

var _ coordinator.Tester = (*mysqlLog)(nil)

// Test implements coordinator.Tester, by a connection of its own.
func (l *mysqlLog) Test(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	srv := l.cfg.server
	s := &session{log: l, catalog: &catalog.Catalog{Server: &srv}}
	defer s.close()
	if err := s.inspect(ctx); err != nil {
		return err
	}
	unmet := errors.Join(s.preflight(ctx, checkpoint.Token{}), s.needs().Exist(ctx))
	if unmet != nil {
		return unmet
	}
	_, err := s.startPosition(ctx, checkpoint.Token{})
	return err
}
