package chunk

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/wire"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// server is what a server says of itself.
type server struct {
	flavor, version string
	identity        string
	uuid, serverID  string
	gtidMode        bool
	fold            bool
}

// inspect asks a server what it is.
func inspect(ctx context.Context, conn *wire.Conn) (v server, err error) {
	rows, err := conn.Query(ctx, "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('version', 'server_id', 'server_uuid', 'server_uid', 'gtid_mode', "+
		"'lower_case_table_names')")
	if err != nil {
		return v, err
	}
	vars := map[string]string{}
	for _, r := range rows {
		vars[strings.ToLower(r[0])] = r[1]
	}
	v = server{
		flavor: product.MySQL, version: vars["version"], identity: vars["server_uuid"], uuid: vars["server_uuid"], serverID: vars["server_id"],
		gtidMode: strings.EqualFold(vars["gtid_mode"], "ON"), fold: vars["lower_case_table_names"] != "0",
	}
	if strings.Contains(strings.ToLower(v.version), "mariadb") {
		v.flavor = product.MariaDB
		v.identity = product.MariaIdentity(vars["server_uid"], vars["server_id"])
	}
	return v, nil
}

// connection is one that outlives the context that it was opened with.
type connection struct {
	*wire.Conn
	cancel context.CancelFunc
}

// open opens a connection; ctx bounds that only.
func open(ctx context.Context, srv *wire.Server) (*connection, error) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	conn, err := srv.Connect(life)
	if !stop() && err == nil {
		conn.Close()
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		return nil, err
	}
	return &connection{conn, cancel}, nil
}

// Close closes the connection.
func (c *connection) Close() {
	c.Conn.Close()
	c.cancel()
}

// serverSays reports whether an error is a server's answer.
func serverSays(err error) bool {
	var my *mysql.MyError
	return errors.As(err, &my)
}

// lockWait is how long a chunk waits, in seconds, for a statement that has locked its table: while it waits, whoever comes after it waits
// too.
const lockWait = 3

// maxSelect bounds the server's time for a chunk, in seconds.
const maxSelect = 600

// settings makes a session one for chunks. Text comes as its column has it. What is idle, or waits for the pipeline, may do so for a day.
func settings(flavor string) string {
	return fmt.Sprintf("SET SESSION character_set_results = NULL, time_zone = '+00:00', sql_mode = 'ALLOW_INVALID_DATES', lock_wait_timeout = %d, "+
		"net_write_timeout = 86400, wait_timeout = 86400, %s", lockWait, timeLimit(flavor, maxSelect))
}

// timeLimit is the setting that bounds the server's time for a query; 0: no bound.
func timeLimit(flavor string, seconds int) string {
	if flavor == product.MariaDB {
		return fmt.Sprintf("max_statement_time = %d", seconds)
	}
	return fmt.Sprintf("max_execution_time = %d", 1000*seconds)
}

// logEnd asks where the log ends: everything that a query has seen before lies before that.
func logEnd(ctx context.Context, query func(context.Context, string) ([][]string, error)) (*gtid.Position, error) {
	rows, err := query(ctx, "SHOW BINARY LOG STATUS") // MySQL 8.2 and later
	if wire.IsServerError(err, mysql.ER_PARSE_ERROR) {
		rows, err = query(ctx, "SHOW MASTER STATUS")
	}
	if err != nil {
		return nil, fmt.Errorf("asking for the end of the binlog: %w", err)
	}
	if len(rows) == 0 || len(rows[0]) < 2 {
		return nil, fault.WithKind(fault.KindOther, errors.New("asking for the end of the binlog: the server names none"))
	}
	return gtid.ParseLoosely(rows[0][0] + ":" + rows[0][1])
}
