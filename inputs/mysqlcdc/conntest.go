package mysqlcdc

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/catalog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/wire"
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
	unmet := errors.Join(s.preflight(ctx, checkpoint.Token{}), s.checkExist(ctx))
	if unmet != nil {
		return unmet
	}
	_, err := s.startPosition(ctx, checkpoint.Token{})
	return err
}

// checkExist names the tables of the configuration that the server does not have. For Run that is no error: a table may be
// made later.
func (s *session) checkExist(ctx context.Context) error {
	var errs []error
	s.tryTables(ctx, func(p pattern, err error) {
		if wire.IsServerError(err, mysql.ER_NO_SUCH_TABLE, mysql.ER_BAD_DB_ERROR) {
			errs = append(errs, fmt.Errorf("%s.%s: there is no table %s.%s: correct its name, or make it", fieldTables, fieldInclude, p.db, p.table))
		}
	})
	return coordinator.WithKind(coordinator.KindSchema, errors.Join(errs...))
}
