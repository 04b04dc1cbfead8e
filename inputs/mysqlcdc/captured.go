package mysqlcdc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/filter"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/wire"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// What the configuration wants to capture and will not get is said at the start and by the connection test: a pattern that matches no
// table, since its name is mistyped or the account cannot see it, and a database whose changes the server keeps out of its log.

// checkExist names the patterns of the configuration that match no table of the server. For Run that is no error: a table may be made
// later.
func (s *session) checkExist(ctx context.Context) error {
	var errs []error
	missing := map[filter.Pattern]bool{}
	s.tryTables(ctx, func(p filter.Pattern, err error) {
		missing[p] = wire.IsServerError(err, mysql.ER_NO_SUCH_TABLE, mysql.ER_BAD_DB_ERROR)
	})
	tables, err := s.catalog.Names(ctx)
	if err != nil {
		return err
	}
	unmatched := s.filter.Unmatched(s.filter.Include, tables)
	for _, p := range s.filter.Include {
		tried := false
		if p.Exact() {
			_, tried = missing[p]
		}
		switch {
		case missing[p]:
			errs = append(errs, fmt.Errorf("%s.%s: there is no table %s: correct its name, or make it", fieldTables, fieldInclude, p))
		case !tried && slices.Contains(unmatched, p):
			errs = append(errs, fmt.Errorf("%s.%s: no table that the account can see matches %s: correct it, or make such a table, or GRANT SELECT "+
				"on it to the account", fieldTables, fieldInclude, p))
		}
	}
	return fault.WithKind(fault.KindSchema, errors.Join(errs...))
}

// warnOfUncaptured says, once in a process, which patterns match no table and which databases the server does not log.
func (s *session) warnOfUncaptured(ctx context.Context) error {
	if s.log.warned.Swap(true) {
		return nil
	}
	tables, err := s.catalog.Names(ctx)
	if err != nil {
		return err
	}
	for _, p := range s.filter.Unmatched(s.filter.Include, tables) {
		s.log.logger.Warnf("%s.%s: no table that the account can see matches %s. If the name is right, make the table: it is captured from then on",
			fieldTables, fieldInclude, p)
	}
	for _, p := range s.filter.Unmatched(s.filter.Exclude, tables) {
		s.log.logger.Warnf("%s.%s: no table that the account can see matches %s", fieldTables, fieldExclude, p)
	}
	if !slices.ContainsFunc(tables, func(n statement.TableName) bool { return s.filter.Match(n.DB, n.Table) }) {
		s.log.logger.Warnf("%s: no table that the account can see is captured", fieldTables)
	}
	withheld := map[string]bool{}
	for _, n := range tables {
		if s.filter.Match(n.DB, n.Table) && s.withheld.Has(n.DB) && !withheld[n.DB] {
			withheld[n.DB] = true
			s.log.logger.Warnf("The server does not log changes of database %s (%s), of which tables are captured: they are delivered by nobody", n.DB, s.withheld)
		}
	}
	return nil
}

// checkWithheld refuses databases that the configuration names and the server leaves out of its log.
func (s *session) checkWithheld() error {
	var errs []error
	for _, p := range s.filter.Include {
		if !strings.Contains(p.Container, "%") && s.withheld.Has(p.Container) {
			errs = append(errs, precondition(fault.KindOther, "%s.%s: %s: the server does not log changes of database %s (%s): take the "+
				"option out of its configuration and start it again, or leave the database out", fieldTables, fieldInclude, p, p.Container, s.withheld))
		}
	}
	return errors.Join(errs...)
}
