package mysqlcdc

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/needs"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/wire"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// inspect learns what the server is: flavor, variables, identity.
func (s *session) inspect(ctx context.Context) error {
	rows, err := s.catalog.Query(ctx, `SHOW GLOBAL VARIABLES WHERE Variable_name IN ('version', 'log_bin', 'binlog_format',
'server_id', 'server_uuid', 'server_uid', 'gtid_mode', 'gtid_executed', 'gtid_purged', 'gtid_binlog_pos', 'lower_case_table_names', '`+needs.LogReplica+"', '"+needs.NativeKeys+"', '"+needs.Applied+"')")
	if err != nil {
		return err
	}
	s.vars = map[string]string{}
	for _, r := range rows {
		s.vars[strings.ToLower(r[0])] = r[1]
	}
	s.flavor = product.MySQL
	if strings.Contains(strings.ToLower(s.vars["version"]), "mariadb") {
		s.flavor = product.MariaDB
	}
	if want := s.log.cfg.flavor; want != product.Auto && want != s.flavor {
		return fmt.Errorf("flavor: the configuration says %s, the server is %s %s", want, s.flavor, s.vars["version"])
	}
	s.dialect = statement.NewDialect(s.flavor, s.vars["version"])
	s.identity = s.vars["server_uuid"]
	if s.flavor == product.MariaDB {
		s.identity = product.MariaIdentity(s.vars["server_uid"], s.vars["server_id"])
	}
	s.filter = s.log.cfg.filter
	s.filter.Fold = s.vars["lower_case_table_names"] != "0"
	return nil
}

// needs is what the server is asked for what streaming needs.
func (s *session) needs() *needs.Server {
	return &needs.Server{
		Catalog: s.catalog, Flavor: s.flavor, Vars: s.vars, ID: s.log.cfg.serverID, User: s.log.cfg.server.User, Filter: s.filter, Withheld: s.withheld,
	}
}

// preflight checks everything that streaming needs and returns all that is missing, each with what mends it.
func (s *session) preflight(ctx context.Context, from checkpoint.Token) error {
	server := s.needs()
	errs := server.Variables()
	for _, check := range []func(context.Context) error{s.checkClient, server.Replica, server.Select, server.NotRelayed} {
		if err := check(ctx); err != nil {
			var my *mysql.MyError
			if fault.KindOf(err) != fault.KindPermission && !errors.As(err, &my) {
				return err // the connection, not the server's setup
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, s.checkGTIDMode(from), s.needs().Logged())...)
}

// warnOfUncaptured says, once in a process, which patterns match no table and which databases the server does not log.
func (s *session) warnOfUncaptured(ctx context.Context) error {
	if s.log.warned.Swap(true) {
		return nil
	}
	warnings, err := s.needs().Uncaptured(ctx)
	for _, w := range warnings {
		s.log.logger.Warn(w)
	}
	return err
}

// checkClient asks for the end of the binlog, which takes REPLICATION CLIENT (BINLOG MONITOR on MariaDB).
func (s *session) checkClient(ctx context.Context) error {
	if !needs.IsOn(s.vars["log_bin"]) {
		return nil
	}
	var err error
	s.end, err = s.endOfLog(ctx)
	if wire.IsServerError(err, mysql.ER_SPECIFIC_ACCESS_DENIED_ERROR) {
		return needs.Unmet(fault.KindPermission, "the account may not see the binlog's position: GRANT REPLICATION CLIENT ON *.* "+
			"TO %s: %w", s.needs().Account(), err)
	}
	return err
}

// checkGTIDMode finds out whether positions are GTIDs, and whether the server can do what is asked for.
func (s *session) checkGTIDMode(from checkpoint.Token) error {
	on := s.flavor == product.MariaDB || s.gtidMode()
	s.useGTID = on && s.log.cfg.useGTID != useGTIDNever
	p, err := s.savedOrConfigured(from)
	if err != nil {
		return err
	}
	if from.Commit == nil && s.log.cfg.useGTID == useGTIDAlways && !on {
		return needs.Unmet(fault.KindOther, "use_gtid is true and gtid_mode is %s: SET GLOBAL gtid_mode = 'ON' (by its steps: "+
			"OFF_PERMISSIVE, ON_PERMISSIVE, ON), or use_gtid: auto", s.vars["gtid_mode"])
	}
	if p == nil {
		return nil
	}
	if p.HasGTIDs && !on && (from.Source != s.identity || p.File == "") {
		return s.noGTIDMode(p)
	}
	if p.HasGTIDs && (p.IsMaria() && s.flavor == product.MySQL || !p.Set().Empty() && s.flavor == product.MariaDB) {
		return fault.WithKind(fault.KindPositionLost, fmt.Errorf("%w: position %s is not one of a %s server",
			fault.ErrPositionLost, p, s.flavor))
	}
	return nil
}
