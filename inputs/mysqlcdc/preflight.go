package mysqlcdc

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/filter"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/wire"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// inspect learns what the server is: flavor, variables, identity.
func (s *session) inspect(ctx context.Context) error {
	rows, err := s.catalog.Query(ctx, `SHOW GLOBAL VARIABLES WHERE Variable_name IN ('version', 'log_bin', 'binlog_format',
'server_id', 'server_uuid', 'server_uid', 'gtid_mode', 'gtid_executed', 'gtid_purged', 'gtid_binlog_pos', 'lower_case_table_names')`)
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

func precondition(kind fault.Kind, format string, args ...any) error {
	return fault.WithKind(kind, fmt.Errorf(format, args...))
}

// preflight checks everything that streaming needs and returns all that is missing, each with what mends it.
func (s *session) preflight(ctx context.Context, from checkpoint.Token) error {
	var errs []error
	add := func(err error) { errs = append(errs, err) }
	if !isOn(s.vars["log_bin"]) {
		add(precondition(fault.KindOther, "the server writes no binlog: start it with log_bin set (--log-bin)"))
	}
	if f := s.vars["binlog_format"]; f != "" && !strings.EqualFold(f, "ROW") {
		add(precondition(fault.KindOther, "binlog_format is %s: SET GLOBAL binlog_format = 'ROW', and the same in the server's "+
			"configuration; sessions that are open keep their own", f))
	}
	switch id := s.vars["server_id"]; id {
	case "0":
		add(precondition(fault.KindOther, "server_id is 0, with which a server serves no replicas: SET GLOBAL server_id = 1"))
	case strconv.FormatUint(uint64(s.log.cfg.serverID), 10):
		add(precondition(fault.KindOther, "server_id: %s is the server's own id: set server_id of this input to a number that no "+
			"server or replica of the topology has", id))
	}
	for _, check := range []func(context.Context) error{s.checkClient, s.checkReplica, s.checkSelect} {
		if err := check(ctx); err != nil {
			var my *mysql.MyError
			if fault.KindOf(err) != fault.KindPermission && !errors.As(err, &my) {
				return err // the connection, not the server's setup
			}
			add(err)
		}
	}
	if err := s.checkGTIDMode(from); err != nil {
		add(err)
	}
	if err := s.checkWithheld(); err != nil {
		add(err)
	}
	return errors.Join(errs...)
}

func isOn(v string) bool { return v == "1" || strings.EqualFold(v, "ON") }

// account is what a GRANT statement names.
func (s *session) account() string {
	return fmt.Sprintf("'%s'@'%%'", strings.ReplaceAll(s.log.cfg.server.User, "'", "''"))
}

// checkClient asks for the end of the binlog, which takes REPLICATION CLIENT (BINLOG MONITOR on MariaDB).
func (s *session) checkClient(ctx context.Context) error {
	if !isOn(s.vars["log_bin"]) {
		return nil
	}
	var err error
	s.end, err = s.endOfLog(ctx)
	if wire.IsServerError(err, mysql.ER_SPECIFIC_ACCESS_DENIED_ERROR) {
		return precondition(fault.KindPermission, "the account may not see the binlog's position: GRANT REPLICATION CLIENT ON *.* "+
			"TO %s: %w", s.account(), err)
	}
	return err
}

// checkReplica looks for REPLICATION SLAVE.
func (s *session) checkReplica(ctx context.Context) error {
	may, refused, err := s.catalog.MayReplicate(ctx, s.flavor)
	const text = "the account may not read the binlog: GRANT REPLICATION SLAVE ON *.* TO %s"
	switch {
	case err != nil || may:
		return err
	case refused != nil:
		return precondition(fault.KindPermission, text+": %w", s.account(), refused)
	default:
		return precondition(fault.KindPermission, text, s.account())
	}
}

// maxSelectChecks bounds the tables that are tried.
const maxSelectChecks = 100

// tryTables reads from the tables that the configuration names in full, and reports how that went.
func (s *session) tryTables(ctx context.Context, report func(p filter.Pattern, err error)) {
	tried := 0
	for _, p := range s.filter.Include {
		if !p.Exact() || tried >= maxSelectChecks {
			continue
		}
		tried++
		_, err := s.catalog.Query(ctx, "SELECT 1 FROM "+statement.QuoteName(p.Container)+"."+statement.QuoteName(p.Table)+" LIMIT 0")
		report(p, err)
	}
}

// checkSelect tries to read the tables that the configuration names in full. Others are checked when their rows arrive.
func (s *session) checkSelect(ctx context.Context) error {
	var errs []error
	s.tryTables(ctx, func(p filter.Pattern, err error) {
		switch {
		case err == nil, wire.IsServerError(err, mysql.ER_NO_SUCH_TABLE, mysql.ER_BAD_DB_ERROR):
		case wire.IsServerError(err, mysql.ER_TABLEACCESS_DENIED_ERROR, mysql.ER_DBACCESS_DENIED_ERROR):
			errs = append(errs, precondition(fault.KindPermission, "the account may not read %s.%s: GRANT SELECT ON %s.%s TO %s: %w",
				p.Container, p.Table, statement.QuoteName(p.Container), statement.QuoteName(p.Table), s.account(), err))
		default:
			errs = append(errs, err)
		}
	})
	return errors.Join(errs...)
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
		return precondition(fault.KindOther, "use_gtid is true and gtid_mode is %s: SET GLOBAL gtid_mode = 'ON' (by its steps: "+
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
