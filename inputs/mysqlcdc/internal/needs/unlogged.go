package needs

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// What a server changes in its tables and does not write to its own log: nobody can read it there, and nothing in the log shows it.

// Variables of the server on which that depends.
const (
	// LogReplica says whether what a replica applies is in its own log. MariaDB's default is that it is not.
	LogReplica = "log_slave_updates"
	// NativeKeys says whether InnoDB alone enforces foreign keys. MySQL has it since 9.6, where the default is OFF: before, it was always so.
	NativeKeys = "innodb_native_foreign_keys"
	// Applied is what a MariaDB has applied as a replica.
	Applied = "gtid_slave_pos"
)

// Relayed refuses a replica that does not log what it applies, while it replicates. Of one that has replicated and does not any more, it
// returns a warning.
func (s *Server) Relayed(ctx context.Context) (warning string, err error) {
	if on, known := s.Vars[LogReplica]; !known || IsOn(on) {
		return "", nil
	}
	running, was, err := s.replicates(ctx)
	const what = "what it applies as a replica is not in its binlog, because log_slave_updates is OFF"
	switch {
	case err != nil:
		return "", err
	case running:
		return "", Unmet(fault.KindOther, "the server is a replica, and %s: nothing of that can be delivered. Set log_slave_updates = ON in its "+
			"configuration and start it again, or read from its primary", what)
	case was:
		return "The server has been a replica, and " + what + ": while it replicates again, nothing of that can be delivered. Set log_slave_updates = ON " +
			"in its configuration and start it again", nil
	}
	return "", nil
}

// NotRelayed is the error of Relayed.
func (s *Server) NotRelayed(ctx context.Context) error {
	_, err := s.Relayed(ctx)
	return err
}

// replicates reports whether the server is a replica that runs, and whether it is one that does not, or was one.
func (s *Server) replicates(ctx context.Context) (running, was bool, err error) {
	if s.Flavor == product.MariaDB {
		rows, err := s.Catalog.Query(ctx, "SHOW GLOBAL STATUS LIKE 'Slaves_running'")
		if err != nil {
			return false, false, err
		}
		return len(rows) == 1 && rows[0][1] != "0", s.Vars[Applied] != "", nil
	}
	rows, err := s.Catalog.Query(ctx, "SHOW REPLICA STATUS")
	if my := (*mysql.MyError)(nil); errors.As(err, &my) {
		return false, false, nil // the account may not know
	}
	for _, r := range rows { // fields 11 and 12 are Replica_IO_Running and Replica_SQL_Running
		running = running || len(r) > 11 && (r[10] != "No" || r[11] == "Yes")
	}
	return running, len(rows) > 0, err
}

// cascade is a foreign key that changes rows of its table with those of another one.
type cascade struct {
	table       statement.TableName
	name, other string
	rules       string // ON DELETE CASCADE, ON UPDATE SET NULL
}

// cascades returns a warning for each foreign key that changes rows of a captured table with those of another one, where the server
// logs the change of the other one only.
func (s *Server) cascades(ctx context.Context, tables []statement.TableName) (warnings []string, err error) {
	if native, known := s.Vars[NativeKeys]; known && !IsOn(native) {
		return nil, nil
	}
	find := s.mysqlCascades
	if s.Flavor == product.MariaDB {
		find = s.mariaCascades
	}
	found, err := find(ctx, tables)
	if err != nil {
		return nil, fmt.Errorf("reading the foreign keys: %w", err)
	}
	for _, c := range found {
		if s.Filter.Match(c.table.DB, c.table.Table) {
			warnings = append(warnings, fmt.Sprintf("Table %s.%s: its foreign key %s changes rows when those of %s change (%s), and the server does not log "+
				"that: these changes are delivered by nobody. Let the application or a trigger of %s make them", c.table.DB, c.table.Table, c.name, c.other, c.rules, c.other))
		}
	}
	return warnings, nil
}

// mysqlCascades reads the foreign keys of all tables.
func (s *Server) mysqlCascades(ctx context.Context, _ []statement.TableName) (found []cascade, err error) {
	rows, err := s.Catalog.Query(ctx, "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, REFERENCED_TABLE_NAME, "+
		"CONCAT('ON DELETE ', DELETE_RULE, ' ON UPDATE ', UPDATE_RULE) FROM information_schema.REFERENTIAL_CONSTRAINTS ORDER BY 1, 2, 3")
	for _, r := range rows {
		if rules := rulesOf(r[4]); rules != "" {
			found = append(found, cascade{statement.TableName{DB: r[0], Table: r[1]}, r[2], r[3], rules})
		}
	}
	return found, err
}

// mostShown bounds the tables whose statements are read.
const mostShown = 2000

// mariaCascades reads the statements of the captured tables: MariaDB's information_schema shows the foreign keys of a table only to accounts
// that may change it.
func (s *Server) mariaCascades(ctx context.Context, tables []statement.TableName) (found []cascade, err error) {
	shown := 0
	for _, n := range tables {
		if !s.Filter.Match(n.DB, n.Table) || shown == mostShown {
			continue
		}
		shown++
		rows, err := s.Catalog.Query(ctx, "SHOW CREATE TABLE "+n.SQL())
		if my := (*mysql.MyError)(nil); errors.As(err, &my) {
			continue // it is gone, or the account may not read it, which is told elsewhere
		}
		if err != nil {
			return nil, err
		}
		for _, m := range foreignKey.FindAllStringSubmatch(rows[0][1], -1) {
			if rules := rulesOf(m[3]); rules != "" {
				found = append(found, cascade{n, unquote(m[1]), unquote(m[2]), rules})
			}
		}
	}
	return found, nil
}

var (
	// foreignKey matches a foreign key in what SHOW CREATE TABLE answers: its name, the other table, and its rules.
	foreignKey = regexp.MustCompile("(?m)^ *CONSTRAINT (`(?:[^`]|``)+`) FOREIGN KEY .* REFERENCES ((?:`(?:[^`]|``)+`\\.)?`(?:[^`]|``)+`) \\(.*?`\\)(.*)$")
	rule       = regexp.MustCompile("ON (?:DELETE|UPDATE) (?:CASCADE|SET NULL|SET DEFAULT)")
)

// rulesOf returns those rules of a foreign key that change rows.
func rulesOf(text string) string { return strings.Join(rule.FindAllString(text, -1), ", ") }

// unquote returns names without their quotes.
func unquote(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(strings.Trim(s, "`"), "`.`", "."), "``", "`")
}
