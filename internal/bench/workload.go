package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/deltaforge/deltaforge/internal/servers"
)

// txRows is how many rows a transaction has, unless a case is about just that.
const txRows = 1000

// table is a table and the expressions that make its row number n, in SQL that both products understand or in their own.
type table struct {
	name    string
	columns []string // name and type
	values  []string // n is the number of the row
}

func (t table) create(suffix string) string {
	return fmt.Sprintf("CREATE TABLE %s (%s)%s", t.name, strings.Join(t.columns, ", "), suffix)
}

// ordersMySQL is the table of most cases: seven columns, about 160 bytes.
func ordersMySQL(name string) table {
	return table{
		name: name,
		columns: []string{
			"id BIGINT NOT NULL PRIMARY KEY", "customer_id INT NOT NULL", "status VARCHAR(16) NOT NULL", "amount DECIMAL(12,2) NOT NULL",
			"created_at DATETIME(6) NOT NULL", "note VARCHAR(255) NULL", "version INT NOT NULL",
		},
		values: []string{
			"n", "n * 7919 % 100003", "ELT(1 + n % 4, 'new', 'paid', 'shipped', 'cancelled')", "n % 1000000 / 100",
			"TIMESTAMP'2024-02-29 13:51:30.000000' + INTERVAL n MICROSECOND", "CONCAT('order ', n, ': ', SHA2(n, 256), ', \"handle with care\"')", "n % 10",
		},
	}
}

func ordersPostgres(name string) table {
	return table{
		name: name,
		columns: []string{
			"id BIGINT NOT NULL PRIMARY KEY", "customer_id INT NOT NULL", "status VARCHAR(16) NOT NULL", "amount NUMERIC(12,2) NOT NULL",
			"created_at TIMESTAMP(6) NOT NULL", "note VARCHAR(255) NULL", "version INT NOT NULL",
		},
		values: []string{
			"n", "n * 7919 % 100003", "(ARRAY['new', 'paid', 'shipped', 'cancelled'])[1 + n % 4]", "n % 1000000 / 100.0",
			"TIMESTAMP '2024-02-29 13:51:30.000000' + n * INTERVAL '1 microsecond'",
			"'order ' || n || ': ' || md5(n::text) || md5((n + 1)::text) || ', \"handle with care\"'", "n % 10",
		},
	}
}

// wideMySQL has 60 columns of ten types.
func wideMySQL() table {
	kinds := [][2]string{
		{"INT", "n"},
		{"BIGINT UNSIGNED", "n * 1000003"},
		{"VARCHAR(40)", "CONCAT('text ', n)"},
		{"DECIMAL(18,4)", "n / 16"},
		{"DATETIME(3)", "TIMESTAMP'2024-02-29 13:51:30.000' + INTERVAL n SECOND"},
		{"DATE", "DATE'2024-02-29'"},
		{"DOUBLE", "n / 3"},
		{"TINYINT", "n % 100"},
		{"ENUM('red','green','blue')", "1 + n % 3"},
		{"VARCHAR(20)", "NULL"},
	}
	t := table{name: "wide", columns: []string{"id BIGINT NOT NULL PRIMARY KEY"}, values: []string{"n"}}
	for i := range 59 {
		k := kinds[i%len(kinds)]
		t.columns, t.values = append(t.columns, fmt.Sprintf("c%02d %s", i, k[0])), append(t.values, k[1])
	}
	return t
}

// bigMySQL has rows of 4 KB.
func bigMySQL() table {
	return table{
		name:    "big",
		columns: []string{"id BIGINT NOT NULL PRIMARY KEY", "body TEXT NOT NULL"},
		values:  []string{"n", "REPEAT(SHA2(n, 256), 64)"},
	}
}

// mysqlLoader fills tables on the server's side, which is much faster than sending rows to it.
type mysqlLoader struct {
	db     *sql.DB
	server *servers.MySQL
}

func newMySQLLoader(ctx context.Context, s *suite) (*mysqlLoader, error) {
	server, err := s.mysql(ctx)
	if err != nil {
		return nil, err
	}
	db, err := sql.Open("mysql", server.DSN(benchDB))
	if err != nil {
		return nil, err
	}
	l := &mysqlLoader{db: db, server: server}
	digits := "(SELECT 0 d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL SELECT 5 UNION ALL " +
		"SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)"
	err = l.exec(ctx, "CREATE TABLE IF NOT EXISTS numbers (i INT PRIMARY KEY)",
		fmt.Sprintf("INSERT IGNORE INTO numbers SELECT a.d + 10 * b.d + 100 * c.d FROM %[1]s a, %[1]s b, %[1]s c", digits))
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return l, nil
}

func (l *mysqlLoader) exec(ctx context.Context, statements ...string) error {
	for _, sql := range statements {
		if _, err := l.db.ExecContext(ctx, sql); err != nil {
			return fmt.Errorf("running %.80s: %w", sql, err)
		}
	}
	return nil
}

// position is the set of GTIDs that the binlog holds by now.
func (l *mysqlLoader) position(ctx context.Context) (set string, err error) {
	if err := l.db.QueryRowContext(ctx, "SELECT @@GLOBAL.gtid_executed").Scan(&set); err != nil {
		return "", fmt.Errorf("asking for the end of the binlog: %w", err)
	}
	return strings.Join(strings.Fields(set), ""), nil
}

// load makes the table and gives it rows, in transactions of txRows, two at a time. It returns the position before the
// first.
func (l *mysqlLoader) load(ctx context.Context, s *suite, t table, rows int) (from string, err error) {
	began := time.Now()
	if err := l.exec(ctx, "DROP TABLE IF EXISTS "+t.name, t.create("")); err != nil {
		return "", err
	}
	if from, err = l.position(ctx); err != nil {
		return "", err
	}
	query := fmt.Sprintf("INSERT INTO %s SELECT %s FROM (SELECT ? + i AS n FROM numbers) AS batch", t.name, strings.Join(t.values, ", "))
	const workers = 2
	err = together(workers, func(worker int) error {
		for first := worker * txRows; first < rows; first += workers * txRows {
			if _, err := l.db.ExecContext(ctx, query, first); err != nil {
				return fmt.Errorf("loading %s: %w", t.name, err)
			}
		}
		return nil
	})
	s.note("loaded %d rows into %s in %.1f s", rows, t.name, time.Since(began).Seconds())
	return from, err
}

// together runs n workers and returns what went wrong.
func together(n int, work func(worker int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for worker := range n {
		wg.Go(func() { errs[worker] = work(worker) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// loadPostgres makes the table and the publication, a slot for each name, and then the rows. It returns the end of the
// log.
func loadPostgres(ctx context.Context, s *suite, t table, rows int, slots []string, insert func(*pgx.Conn) error) (end string, err error) {
	server, err := s.postgres(ctx)
	if err != nil {
		return "", err
	}
	began := time.Now()
	conn, err := pgx.Connect(ctx, server.DSN(benchDB))
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	statements := []string{
		// What a run of another case over the same table has left.
		"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active AND slot_name LIKE '" + t.name + "%'",
		"DROP PUBLICATION IF EXISTS " + t.name, "DROP TABLE IF EXISTS " + t.name, t.create(""), "ALTER TABLE " + t.name + " OWNER TO " + servers.User,
		fmt.Sprintf("CREATE PUBLICATION %[1]s FOR TABLE %[1]s", t.name),
	}
	for _, slot := range slots {
		statements = append(statements, "SELECT pg_create_logical_replication_slot('"+slot+"', 'pgoutput')")
	}
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return "", fmt.Errorf("running %s: %w", sql, err)
		}
	}
	if err := insert(conn); err != nil {
		return "", fmt.Errorf("loading %s: %w", t.name, err)
	}
	err = conn.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&end)
	s.note("loaded %d rows into %s in %.1f s", rows, t.name, time.Since(began).Seconds())
	return end, err
}

// insertPostgres gives the table rows in transactions of so many.
func insertPostgres(ctx context.Context, conn *pgx.Conn, t table, rows, perTx int) error {
	body := fmt.Sprintf("INSERT INTO %s SELECT %s FROM generate_series(first, first + %d) AS n", t.name, strings.Join(t.values, ", "), perTx-1)
	_, err := conn.Exec(ctx, fmt.Sprintf(`CREATE OR REPLACE PROCEDURE fill(total bigint) LANGUAGE plpgsql AS $fill$
		DECLARE first bigint := 0;
		BEGIN
			WHILE first < total LOOP
				%s;
				COMMIT;
				first := first + %d;
			END LOOP;
		END $fill$`, body, perTx))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, fmt.Sprintf("CALL fill(%d)", rows))
	return err
}

func join(values []string) string { return strings.Join(values, ", ") }
