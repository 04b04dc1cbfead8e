// Package sqltable keeps values in a table of a PostgreSQL, MySQL or MariaDB database.
//
// A row says whose it is. Who claims a key writes its owner into the row, and each later write names the owner that it wants to find there: what an
// earlier owner writes after that changes nothing.
package sqltable

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// Table is one table. Its methods may be called concurrently.
type Table struct {
	db    *sql.DB
	name  string // quoted
	shown string // server and table, for a person
	owner string // this instance
	say   statements
}

// statements are those of one kind of database. The name of the table stands for %s.
type statements struct {
	create, claim, write, peek, keys string
}

// validName is a table name, with its schema or database if need be.
var validName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)?$`) //nolint:gochecknoglobals // a constant

// CheckName returns an error if name cannot be the name of a table.
func CheckName(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("%q is no plain table name: want letters, digits and _, with schema. or database. before it if need be", name)
	}
	return nil
}

const connectTimeout = 10 * time.Second

func parsePostgres(dsn string) (*pgx.ConnConfig, error) {
	conf, err := pgx.ParseConfig(dsn)
	if err != nil || dsn == "" {
		return nil, errors.New("it is not postgres://user:password@host:port/database, and not user=... host=...; special characters in a password of a URL are percent-encoded")
	}
	if conf.ConnectTimeout == 0 {
		conf.ConnectTimeout = connectTimeout
	}
	if conf.RuntimeParams["application_name"] == "" {
		conf.RuntimeParams["application_name"] = "deltaforge_checkpoint"
	}
	return conf, nil
}

// Opener opens a table. It connects at first use.
type Opener func() *Table

// Postgres returns what opens a table in a PostgreSQL database.
func Postgres(dsn, table string) (Opener, error) {
	conf, err := parsePostgres(dsn)
	if err != nil {
		return nil, err
	}
	shown := fmt.Sprintf("table %s at %s:%d/%s", table, conf.Host, conf.Port, conf.Database)
	return func() *Table { return newTable(stdlib.OpenDB(*conf), quote(table, `"`), shown, postgres()) }, nil
}

func parseMySQL(dsn string) (*mysql.Config, error) {
	conf, err := mysql.ParseDSN(dsn)
	if err != nil || dsn == "" {
		return nil, errors.New("it is not user:password@tcp(host:port)/database")
	}
	if conf.DBName == "" {
		return nil, errors.New("it names no database: want user:password@tcp(host:port)/database")
	}
	if conf.Timeout == 0 {
		conf.Timeout = connectTimeout
	}
	conf.InterpolateParams = false
	return conf, nil
}

// MySQL returns what opens a table in a MySQL or MariaDB database.
func MySQL(dsn, table string) (Opener, error) {
	conf, err := parseMySQL(dsn)
	if err != nil {
		return nil, err
	}
	connector, err := mysql.NewConnector(conf)
	if err != nil {
		return nil, errors.New("it is not user:password@tcp(host:port)/database") // what is wrong may be the password
	}
	shown := fmt.Sprintf("table %s at %s/%s", table, conf.Addr, conf.DBName)
	return func() *Table { return newTable(sql.OpenDB(connector), quote(table, "`"), shown, mySQL()) }, nil
}

func newTable(db *sql.DB, quoted, shown string, say statements) *Table {
	db.SetMaxOpenConns(2)
	db.SetMaxIdleConns(1)
	db.SetConnMaxLifetime(5 * time.Minute) // an address may lead to another server meanwhile
	return &Table{db: db, name: quoted, shown: shown, owner: rand.Text(), say: say}
}

func quote(name, mark string) string {
	parts := strings.Split(name, ".")
	for i, p := range parts {
		parts[i] = mark + p + mark
	}
	return strings.Join(parts, ".")
}

func postgres() statements {
	return statements{
		create: `CREATE TABLE IF NOT EXISTS %s ("key" text PRIMARY KEY, value text, owner text NOT NULL, updated_at timestamptz NOT NULL DEFAULT now())`,
		claim:  `INSERT INTO %s AS t ("key", owner) VALUES ($1, $2) ON CONFLICT ("key") DO UPDATE SET owner = excluded.owner`,
		write: `INSERT INTO %s AS t ("key", owner, value) VALUES ($1, $2, $3) ON CONFLICT ("key") DO UPDATE
			SET value = excluded.value, updated_at = now() WHERE t.owner = excluded.owner`,
		peek: `SELECT value, owner FROM %s WHERE "key" = $1`,
		keys: `SELECT "key" FROM %s WHERE value IS NOT NULL ORDER BY "key"`,
	}
}

// The key has a binary collation: two keys that differ in case are two keys.
func mySQL() statements {
	return statements{
		create: "CREATE TABLE IF NOT EXISTS %s (`key` VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY, value LONGTEXT CHARACTER SET utf8mb4, " +
			"owner VARCHAR(64) CHARACTER SET ascii NOT NULL, updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)) ENGINE=InnoDB",
		claim: "INSERT INTO %s (`key`, owner) VALUES (?, ?) ON DUPLICATE KEY UPDATE owner = VALUES(owner)",
		write: "INSERT INTO %s (`key`, owner, value) VALUES (?, ?, ?) ON DUPLICATE KEY UPDATE value = IF(owner = VALUES(owner), VALUES(value), value)",
		peek:  "SELECT value, owner FROM %s WHERE `key` = ?",
		keys:  "SELECT `key` FROM %s WHERE value IS NOT NULL ORDER BY `key`",
	}
}

// String says where the table is.
func (t *Table) String() string { return t.shown }

// Claim makes a key this instance's. The table is made when it is missing.
func (t *Table) Claim(ctx context.Context, key string) error {
	return t.do(ctx, key, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, t.sql(t.say.claim), key, t.owner)
		return err
	})
}

// Write sets the value of a key that this instance has claimed; nil: none. It reports false, and changes nothing, when another instance has claimed the key
// since.
func (t *Table) Write(ctx context.Context, key string, value []byte) (mine bool, err error) {
	v := sql.NullString{String: string(value), Valid: value != nil}
	return mine, t.do(ctx, key, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, t.sql(t.say.write), key, t.owner, v); err != nil {
			return err
		}
		_, owner, err := t.read(ctx, tx, key)
		mine = owner == t.owner
		return err
	})
}

// Peek returns the value of a key, nil if there is none.
func (t *Table) Peek(ctx context.Context, key string) (value []byte, err error) {
	if value, _, err = t.read(ctx, t.db, key); missing(err) {
		return nil, nil
	}
	return value, t.explain(err)
}

// Keys returns the keys that have a value, in order.
func (t *Table) Keys(ctx context.Context) (keys []string, err error) {
	rows, err := t.db.QueryContext(ctx, t.sql(t.say.keys))
	if err != nil {
		if missing(err) {
			return nil, nil
		}
		return nil, t.explain(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var key string
		if err := rows.Scan(&key); err != nil {
			return nil, t.explain(err)
		}
		keys = append(keys, key)
	}
	return keys, t.explain(rows.Err())
}

// Close ends the connections.
func (t *Table) Close() error { return t.db.Close() }

// do runs f in a transaction. If the table is missing, it is made and f is run once more.
func (t *Table) do(ctx context.Context, key string, f func(tx *sql.Tx) error) error {
	if len(key) > 255 {
		return fmt.Errorf("key %.40q... has %d bytes, of 255", key, len(key))
	}
	err := t.inTx(ctx, f)
	if missing(err) {
		_, made := t.db.ExecContext(ctx, t.sql(t.say.create)) // which fails, too, when another instance makes it at the same time
		if err = t.inTx(ctx, f); missing(err) && made != nil {
			return fmt.Errorf("making the %w; make it yourself with %s", t.explain(made), t.sql(t.say.create))
		}
	}
	return t.explain(err)
}

func (t *Table) inTx(ctx context.Context, f func(tx *sql.Tx) error) error {
	tx, err := t.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		_ = tx.Rollback() // the first error says more
		return err
	}
	return tx.Commit()
}

type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func (t *Table) read(ctx context.Context, q querier, key string) (value []byte, owner string, err error) {
	var v sql.NullString
	err = q.QueryRowContext(ctx, t.sql(t.say.peek), key).Scan(&v, &owner)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, "", nil
	}
	if err == nil && v.Valid {
		value = []byte(v.String)
	}
	return value, owner, err
}

func (t *Table) sql(statement string) string { return fmt.Sprintf(statement, t.name) }

func (t *Table) explain(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", t.shown, err)
}

// The errors of a table that is not there: SQLSTATE 42P01, and ER_NO_SUCH_TABLE.
const (
	undefinedTable = "42P01"
	noSuchTable    = 1146
)

func missing(err error) bool {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code == undefinedTable
	}
	e, ok := errors.AsType[*mysql.MySQLError](err)
	return ok && e.Number == noSuchTable
}
