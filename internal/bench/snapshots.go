package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/servers/binaries"
)

// snapshotRows is how many rows the loaded table has.
const snapshotRows = 5_000_000

// snapshotGoal is how fast a snapshot is to be, measured against the database's own tool.
const snapshotGoal = 0.7

// mysqlSnapshots loads a table in each of the wanted ways, against mysqldump --single-transaction of the same table.
func mysqlSnapshots(ctx context.Context, s *suite, wanted map[string]bool) (err error) {
	load, err := newMySQLLoader(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, load.db.Close()) }()
	rows := s.rows(snapshotRows)
	if _, err := load.load(ctx, s, ordersMySQL("loaded"), rows); err != nil {
		return err
	}
	if err := load.exec(ctx, "ANALYZE TABLE loaded"); err != nil {
		return err
	}
	variants := []variant{{"mysqldump", func(ctx context.Context, _ int) (sample, error) { return s.mysqldump(ctx, load.server, "loaded", rows) }}}
	for _, c := range snapshotCases("mysql", wanted) {
		variants = append(variants, variant{c.name, func(ctx context.Context, _ int) (sample, error) {
			d := drain{config: "mysql_snapshot.yaml", total: rows, profile: c.name, limit: 5 * time.Minute, env: c.env()}
			d.env["MYSQL_DSN"], d.env["TABLES"] = load.server.UserDSN(""), benchDB+".loaded"
			return d.run(ctx, s)
		}})
	}
	return s.snapshots(ctx, variants)
}

// snapshotCase is how a table is loaded.
type snapshotCase struct {
	name, metadata string
	parallel       int // chunks at a time
}

// snapshotCases returns the wanted cases of a database: with one chunk, with four, and with four and no metadata.
func snapshotCases(database string, wanted map[string]bool) []snapshotCase {
	all := strings.Join(change.DefaultMetadata(), ", ")
	return slices.DeleteFunc([]snapshotCase{
		{database + "_snapshot_drop", all, 1}, {database + "_snapshot_drop_4", all, 4}, {database + "_snapshot_bare", "", 4},
	}, func(c snapshotCase) bool { return !wanted[c.name] })
}

func (c snapshotCase) env() map[string]string {
	return map[string]string{"PARALLEL": strconv.Itoa(c.parallel), "METADATA": "[" + c.metadata + "]"}
}

// snapshots measures the variants against the first of them.
func (s *suite) snapshots(ctx context.Context, variants []variant) error {
	got, err := s.alternate(ctx, variants...)
	if err != nil {
		return err
	}
	for _, v := range variants[1:] {
		s.report(v.name, "rows/s", got[v.name], got[variants[0].name], ratioAtLeast(snapshotGoal))
	}
	return nil
}

// mysqldump writes a table to /dev/null.
func (s *suite) mysqldump(ctx context.Context, server *servers.MySQL, table string, rows int) (sample, error) {
	installed, err := binaries.MySQL()
	if err != nil {
		return sample{}, err
	}
	command := installed.Command
	mysqld := command[len(command)-1]
	command = append(append([]string{}, command[:len(command)-1]...), filepath.Join(filepath.Dir(filepath.Dir(mysqld)), "bin", "mysqldump"))
	host, port, err := net.SplitHostPort(server.Addr())
	if err != nil {
		return sample{}, err
	}
	cmd := exec.CommandContext(ctx, command[0], append(command[1:], "--no-defaults", "--single-transaction", "--quick", "--set-gtid-purged=OFF", "--no-tablespaces",
		"--host="+host, "--port="+port, "--user=root", benchDB, table)...)
	cmd.Env = append(os.Environ(), "MYSQL_PWD="+servers.Password)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	began := time.Now()
	if err := cmd.Run(); err != nil {
		return sample{}, fmt.Errorf("running mysqldump: %w\n%s", err, stderr.Bytes())
	}
	m := sample{value: float64(rows) / time.Since(began).Seconds(), cpu: (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()}
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		m.rss = float64(u.Maxrss) / 1024
	}
	return m, nil
}

// postgresSnapshots is mysqlSnapshots against COPY … TO STDOUT.
func postgresSnapshots(ctx context.Context, s *suite, wanted map[string]bool) (err error) {
	rows := s.rows(snapshotRows)
	t := ordersPostgres("loaded")
	if _, err := loadPostgres(ctx, s, t, rows, nil, func(conn *pgx.Conn) error { return insertPostgres(ctx, conn, t, rows, txRows) }); err != nil {
		return err
	}
	server := s.servers.postgres
	admin, err := pgx.Connect(ctx, server.DSN(benchDB))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, admin.Close(ctx)) }()
	if _, err := admin.Exec(ctx, "VACUUM ANALYZE loaded"); err != nil {
		return err
	}
	variants := []variant{{"COPY", func(ctx context.Context, _ int) (sample, error) {
		began, cpu := time.Now(), cpuSeconds()
		_, err := admin.PgConn().CopyTo(ctx, io.Discard, "COPY loaded TO STDOUT")
		return sample{value: float64(rows) / time.Since(began).Seconds(), cpu: cpuSeconds() - cpu}, err
	}}}
	for _, c := range snapshotCases("postgres", wanted) {
		variants = append(variants, variant{c.name, func(ctx context.Context, round int) (sample, error) {
			slot := slotName(t.name, strings.TrimPrefix(c.name, "postgres_"), round)
			d := drain{config: "postgres_snapshot.yaml", total: rows, profile: c.name, limit: 5 * time.Minute, env: c.env()}
			d.env["POSTGRES_DSN"], d.env["SLOT"] = server.UserDSN(benchDB), slot
			d.env["PUBLICATION"], d.env["TABLES"] = t.name, "public."+t.name
			m, err := d.run(ctx, s)
			l := &postgresLog{admin: admin}
			return m, errors.Join(err, l.drop(ctx, slot))
		}})
	}
	return s.snapshots(ctx, variants)
}
