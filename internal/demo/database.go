package demo

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/servers/binaries"
)

// shopName is the database, the source and the first part of the topics.
const shopName = "shop"

// database is a private server with an empty shop in it.
type database struct {
	server    *servers.Server
	product   string // with its version
	db        *sql.DB
	dialect   dialect
	component string   // the input that reads it
	dsn       string   // for the component
	tables    []string // as the component names them
	topics    []string
}

// dialect is what PostgreSQL and MySQL say differently.
type dialect struct {
	ddl []string
	// bind names the n-th argument of a statement, from 1.
	bind func(n int) string
	// texts are SELECTs by table, every column as text in the form that the envelope has for it.
	texts map[string]string
	// readers is a query for the number of connections that follow the log.
	readers string
}

const (
	tableCustomers = "customers"
	tableOrders    = "orders"
)

// startDatabase starts a server with its files in dir, and makes the shop.
func startDatabase(ctx context.Context, useMySQL bool, dir string) (*database, error) {
	var d *database
	var err error
	if useMySQL {
		d, err = startMySQL(ctx, dir)
	} else {
		d, err = startPostgres(ctx, dir)
	}
	if err != nil {
		return nil, err
	}
	for _, statement := range d.dialect.ddl {
		if _, err := d.db.ExecContext(ctx, statement); err != nil {
			return nil, errors.Join(fmt.Errorf("making the shop's tables: %w", err), d.close(ctx))
		}
	}
	return d, nil
}

// needsFetch reports that PostgreSQL is neither installed nor fetched yet.
func needsFetch() bool {
	if _, err := binaries.Postgres(); err == nil {
		return false
	}
	dir, err := binaries.EmbeddedPostgres()
	if err != nil {
		return true
	}
	_, err = os.Stat(dir)
	return err != nil
}

func startPostgres(ctx context.Context, dir string) (*database, error) {
	server, err := servers.StartPostgres(ctx, servers.Options{Dir: dir, NoSync: true})
	if err != nil {
		return nil, err
	}
	d := &database{
		server: server.Server, component: "deltaforge_postgres", dsn: server.UserDSN(shopName), dialect: postgresDialect(),
		tables: []string{"public." + tableCustomers, "public." + tableOrders},
	}
	d.topics = topicsOf(d.tables)
	// The user that the stream connects as owns the shop, so that the stream can make its publication.
	admin, err := pgx.Connect(ctx, server.DSN(""))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connecting to PostgreSQL: %w", err), d.close(ctx))
	}
	_, err = admin.Exec(ctx, "CREATE DATABASE "+shopName+" OWNER "+servers.User)
	if err = errors.Join(err, admin.Close(ctx)); err != nil {
		return nil, errors.Join(fmt.Errorf("creating the database %s: %w", shopName, err), d.close(ctx))
	}
	config, err := pgx.ParseConfig(d.dsn)
	if err != nil {
		return nil, errors.Join(err, d.close(ctx))
	}
	d.db = stdlib.OpenDB(*config)
	return d, d.describe(ctx, "PostgreSQL", "SELECT current_setting('server_version')")
}

// startMySQL starts a MySQL, else a MariaDB.
func startMySQL(ctx context.Context, dir string) (*database, error) {
	server, err := servers.StartMySQL(ctx, servers.Options{Dir: dir, NoSync: true})
	if missing, ok := errors.AsType[*binaries.MissingError](err); ok {
		mysqlMissing := err
		if server, err = servers.StartMariaDB(ctx, servers.Options{Dir: dir, NoSync: true}); errors.As(err, &missing) {
			err = errors.Join(mysqlMissing, err)
		}
	}
	if err != nil {
		return nil, err
	}
	d := &database{
		server: server.Server, component: "deltaforge_mysql", dsn: server.UserDSN(""), dialect: mysqlDialect(),
		tables: []string{shopName + "." + tableCustomers, shopName + "." + tableOrders},
	}
	d.topics = topicsOf(d.tables)
	config, err := mysql.ParseDSN(server.DSN(""))
	if err != nil {
		return nil, errors.Join(err, d.close(ctx))
	}
	config.Params = map[string]string{"time_zone": "'+00:00'", "sql_mode": "'STRICT_ALL_TABLES'"}
	config.InterpolateParams = true
	config.Logger = silent{} // the driver would print to the terminal what it returns as well
	create, err := mysql.NewConnector(config)
	if err != nil {
		return nil, errors.Join(err, d.close(ctx))
	}
	d.db = sql.OpenDB(create)
	if _, err := d.db.ExecContext(ctx, "CREATE DATABASE "+shopName+" CHARACTER SET utf8mb4"); err != nil {
		return nil, errors.Join(fmt.Errorf("creating the database %s: %w", shopName, err), d.close(ctx))
	}
	if err := d.db.Close(); err != nil {
		return nil, errors.Join(err, d.close(ctx))
	}
	config.DBName = shopName
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, errors.Join(err, d.close(ctx))
	}
	d.db = sql.OpenDB(connector)
	return d, d.describe(ctx, server.Name(), "SELECT VERSION()")
}

type silent struct{}

func (silent) Print(...any) {}

// describe fills in the product. When it fails the database is closed.
func (d *database) describe(ctx context.Context, name, query string) error {
	var version string
	if err := d.db.QueryRowContext(ctx, query).Scan(&version); err != nil {
		return errors.Join(fmt.Errorf("asking %s for its version: %w", name, err), d.close(ctx))
	}
	version, _, _ = strings.Cut(version, " ")
	version, _, _ = strings.Cut(version, "-")
	d.product = name + " " + version
	return nil
}

func topicsOf(tables []string) []string {
	topics := make([]string, len(tables))
	for i, table := range tables {
		topics[i] = shopName + "." + table
	}
	return topics
}

// close stops the server in an orderly way until ctx ends, then by force.
func (d *database) close(ctx context.Context) error {
	var err error
	if d.db != nil {
		err = d.db.Close()
	}
	// Stop complains when it had to use force; that is what it is told to do here.
	_ = d.server.Stop(ctx)
	return errors.Join(err, d.server.Close())
}

// followed reports whether the stream is connected to the log.
func (d *database) followed(ctx context.Context) (bool, error) {
	var n int
	if err := d.db.QueryRowContext(ctx, d.dialect.readers).Scan(&n); err != nil {
		return false, fmt.Errorf("asking %s who reads its log: %w", d.product, err)
	}
	return n > 0, nil
}

// contents reads every table.
func (d *database) contents(ctx context.Context) (map[string]map[string]row, error) {
	all := map[string]map[string]row{}
	for table, query := range d.dialect.texts {
		rows, err := d.read(ctx, query)
		if err != nil {
			return nil, fmt.Errorf("reading the table %s: %w", table, err)
		}
		all[table] = rows
	}
	return all, nil
}

func (d *database) read(ctx context.Context, query string) (map[string]row, error) {
	rows, err := d.db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	table := map[string]row{}
	values, targets := make([]sql.NullString, len(columns)), make([]any, len(columns))
	for i := range values {
		targets[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			return nil, err
		}
		r := row{}
		for i, name := range columns {
			r[name] = nil
			if values[i].Valid {
				r[name] = values[i].String
			}
		}
		table[fmt.Sprint(r[columnID])] = r
	}
	return table, rows.Err()
}

func postgresDialect() dialect {
	return dialect{
		ddl: []string{
			`CREATE TYPE order_status AS ENUM ('new', 'paid', 'shipped', 'delivered')`,
			`CREATE TABLE customers (
				id bigint PRIMARY KEY, name text NOT NULL, email text NOT NULL, city text,
				orders integer NOT NULL, version integer NOT NULL)`,
			`CREATE TABLE orders (
				id bigint PRIMARY KEY, customer_id bigint NOT NULL REFERENCES customers, status order_status NOT NULL,
				total numeric(10,2) NOT NULL, placed_at timestamptz NOT NULL DEFAULT now(), version integer NOT NULL)`,
			`CREATE INDEX ON orders (customer_id)`,
		},
		bind: func(n int) string { return fmt.Sprintf("$%d", n) },
		texts: map[string]string{
			tableCustomers: `SELECT id, name, email, city, orders, version FROM customers`,
			tableOrders: `SELECT id, customer_id, status::text, total,
				to_char(placed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS placed_at, version FROM orders`,
		},
		readers: `SELECT count(*) FROM pg_replication_slots WHERE active`,
	}
}

func mysqlDialect() dialect {
	return dialect{
		ddl: []string{
			`CREATE TABLE customers (
				id bigint PRIMARY KEY, name varchar(100) NOT NULL, email varchar(100) NOT NULL, city varchar(100),
				orders int NOT NULL, version int NOT NULL)`,
			`CREATE TABLE orders (
				id bigint PRIMARY KEY, customer_id bigint NOT NULL, status ENUM('new', 'paid', 'shipped', 'delivered') NOT NULL,
				total decimal(10,2) NOT NULL, placed_at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), version int NOT NULL,
				INDEX (customer_id))`,
		},
		bind: func(int) string { return "?" },
		texts: map[string]string{
			tableCustomers: `SELECT id, name, email, city, orders, version FROM customers`,
			tableOrders: `SELECT id, customer_id, status, total, DATE_FORMAT(placed_at, '%Y-%m-%dT%H:%i:%s.%fZ') AS placed_at, version
				FROM orders`,
		},
		readers: `SELECT count(*) FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'`,
	}
}
