// Package needs says what streaming needs of a server and does not have, each with what mends it, and what the configuration wants to
// capture and will not get.
package needs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/catalog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/filter"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/wire"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// The fields that errors and warnings name.
const (
	include = "tables.include"
	exclude = "tables.exclude"
)

// Server is a server, and what is wanted of it.
type Server struct {
	Catalog  *catalog.Catalog
	Flavor   string
	Vars     map[string]string // its variables
	ID       uint32            // of the replica that the source is
	User     string
	Filter   filter.Filter
	Withheld filter.Withheld
}

// Unmet is an error of the server's setup.
func Unmet(kind fault.Kind, format string, args ...any) error {
	return fault.WithKind(kind, fmt.Errorf(format, args...))
}

// IsOn reports whether a variable's value means yes.
func IsOn(v string) bool { return v == "1" || strings.EqualFold(v, "ON") }

// Account is what a GRANT statement names.
func (s *Server) Account() string {
	return fmt.Sprintf("'%s'@'%%'", strings.ReplaceAll(s.User, "'", "''"))
}

// Variables returns what is wrong with the variables of the server.
func (s *Server) Variables() (errs []error) {
	if !IsOn(s.Vars["log_bin"]) {
		errs = append(errs, Unmet(fault.KindOther, "the server writes no binlog: start it with log_bin set (--log-bin)"))
	}
	if f := s.Vars["binlog_format"]; f != "" && !strings.EqualFold(f, "ROW") {
		errs = append(errs, Unmet(fault.KindOther, "binlog_format is %s: SET GLOBAL binlog_format = 'ROW', and the same in the server's "+
			"configuration; sessions that are open keep their own", f))
	}
	switch id := s.Vars["server_id"]; id {
	case "0":
		errs = append(errs, Unmet(fault.KindOther, "server_id is 0, with which a server serves no replicas: SET GLOBAL server_id = 1"))
	case strconv.FormatUint(uint64(s.ID), 10):
		errs = append(errs, Unmet(fault.KindOther, "server_id: %s is the server's own id: set server_id of this input to a number that no "+
			"server or replica of the topology has", id))
	}
	return errs
}

// Replica looks for REPLICATION SLAVE.
func (s *Server) Replica(ctx context.Context) error {
	may, refused, err := s.Catalog.MayReplicate(ctx, s.Flavor)
	const text = "the account may not read the binlog: GRANT REPLICATION SLAVE ON *.* TO %s"
	switch {
	case err != nil || may:
		return err
	case refused != nil:
		return Unmet(fault.KindPermission, text+": %w", s.Account(), refused)
	default:
		return Unmet(fault.KindPermission, text, s.Account())
	}
}

// mostTried bounds the tables that are tried.
const mostTried = 100

// try reads from the tables that the configuration names in full, and reports how that went.
func (s *Server) try(ctx context.Context, report func(p filter.Pattern, err error)) {
	tried := 0
	for _, p := range s.Filter.Include {
		if !p.Exact() || tried >= mostTried {
			continue
		}
		tried++
		_, err := s.Catalog.Query(ctx, "SELECT 1 FROM "+statement.QuoteName(p.Container)+"."+statement.QuoteName(p.Table)+" LIMIT 0")
		report(p, err)
	}
}

// Select tries to read the tables that the configuration names in full. Others are checked when their rows arrive.
func (s *Server) Select(ctx context.Context) error {
	var errs []error
	s.try(ctx, func(p filter.Pattern, err error) {
		switch {
		case err == nil, wire.IsServerError(err, mysql.ER_NO_SUCH_TABLE, mysql.ER_BAD_DB_ERROR):
		case wire.IsServerError(err, mysql.ER_TABLEACCESS_DENIED_ERROR, mysql.ER_DBACCESS_DENIED_ERROR):
			errs = append(errs, Unmet(fault.KindPermission, "the account may not read %s.%s: GRANT SELECT ON %s.%s TO %s: %w",
				p.Container, p.Table, statement.QuoteName(p.Container), statement.QuoteName(p.Table), s.Account(), err))
		default:
			errs = append(errs, err)
		}
	})
	return errors.Join(errs...)
}

// Logged refuses databases that the configuration names and the server leaves out of its log.
func (s *Server) Logged() error {
	var errs []error
	for _, p := range s.Filter.Include {
		if !strings.Contains(p.Container, "%") && s.Withheld.Has(p.Container) {
			errs = append(errs, Unmet(fault.KindOther, "%s: %s: the server does not log changes of database %s (%s): take the "+
				"option out of its configuration and start it again, or leave the database out", include, p, p.Container, s.Withheld))
		}
	}
	return errors.Join(errs...)
}

// Exist names the patterns of the configuration that match no table of the server. For Run that is no error: a table may be made
// later.
func (s *Server) Exist(ctx context.Context) error {
	var errs []error
	missing := map[filter.Pattern]bool{}
	s.try(ctx, func(p filter.Pattern, err error) {
		missing[p] = wire.IsServerError(err, mysql.ER_NO_SUCH_TABLE, mysql.ER_BAD_DB_ERROR)
	})
	tables, err := s.Catalog.Names(ctx)
	if err != nil {
		return err
	}
	unmatched := s.Filter.Unmatched(s.Filter.Include, tables)
	for _, p := range s.Filter.Include {
		tried := false
		if p.Exact() {
			_, tried = missing[p]
		}
		switch {
		case missing[p]:
			errs = append(errs, fmt.Errorf("%s: there is no table %s: correct its name, or make it", include, p))
		case !tried && slices.Contains(unmatched, p):
			errs = append(errs, fmt.Errorf("%s: no table that the account can see matches %s: correct it, or make such a table, or GRANT SELECT "+
				"on it to the account", include, p))
		}
	}
	return fault.WithKind(fault.KindSchema, errors.Join(errs...))
}

// Uncaptured returns warnings: which patterns match no table, and what the server does not log.
func (s *Server) Uncaptured(ctx context.Context) (warnings []string, err error) {
	tables, err := s.Catalog.Names(ctx)
	if err != nil {
		return nil, err
	}
	warn := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	for _, p := range s.Filter.Unmatched(s.Filter.Include, tables) {
		warn("%s: no table that the account can see matches %s. If the name is right, make the table: it is captured from then on", include, p)
	}
	for _, p := range s.Filter.Unmatched(s.Filter.Exclude, tables) {
		warn("%s: no table that the account can see matches %s", exclude, p)
	}
	if !slices.ContainsFunc(tables, func(n statement.TableName) bool { return s.Filter.Match(n.DB, n.Table) }) {
		warn("tables: no table that the account can see is captured")
	}
	told := map[string]bool{}
	for _, n := range tables {
		if s.Filter.Match(n.DB, n.Table) && s.Withheld.Has(n.DB) && !told[n.DB] {
			told[n.DB] = true
			warn("The server does not log changes of database %s (%s), of which tables are captured: they are delivered by nobody", n.DB, s.Withheld)
		}
	}
	cascades, err := s.cascades(ctx, tables)
	if err != nil {
		return warnings, err
	}
	relayed, err := s.Relayed(ctx)
	if relayed != "" {
		warnings = append(warnings, relayed)
	}
	return append(warnings, cascades...), err
}
