package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/servers"
)

// loadSize reads how much is loaded: `task test:snapshots` sets more.
func loadSize(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, name)
	return n
}

// longWanted reports whether `task test:snapshots` runs.
func longWanted() bool { return os.Getenv("DELTAFORGE_SNAPSHOT_TABLES") != "" }

// longLoads skips what only `task test:snapshots` runs.
func longLoads(t *testing.T) {
	t.Helper()
	if !longWanted() {
		t.Skip("it takes long: `task test:snapshots` runs it")
	}
}

// makeTables makes a table with many rows, and others of which one third is empty and one third has one row. It returns how many rows there are.
func makeTables(t *testing.T, src source, tables, rows int) (total int) {
	t.Helper()
	exec := func(q string) {
		_, err := src.db.ExecContext(t.Context(), q)
		require.NoError(t, err, q)
	}
	create := func(name string) {
		exec("CREATE TABLE " + name + " (id INT NOT NULL PRIMARY KEY, note VARCHAR(200))")
		if src.slot != "" {
			exec("ALTER TABLE " + name + " OWNER TO " + servers.User)
		}
	}
	create("big")
	exec("INSERT INTO big VALUES (1, 'order 1: c4ca4238a0b923820dcc509a6f75849b, \"handle with care\"')")
	for n := 1; n < rows; n *= 2 {
		exec(fmt.Sprintf("INSERT INTO big SELECT id + %d, note FROM big WHERE id <= %d", n, min(n, rows-n)))
	}
	for i := 1; i < tables; i++ {
		name := fmt.Sprintf("small_%d", i)
		create(name)
		switch i % 3 {
		case 1:
			exec("INSERT INTO " + name + " VALUES (1, 'one')")
			total++
		case 2:
			exec("INSERT INTO " + name + " VALUES (3, 'some'), (5, 'some'), (7, NULL)")
			total += 3
		}
	}
	return total + rows
}

// Many tables are loaded, of which some are empty and one is large.
func TestManyTablesAreLoaded(t *testing.T) {
	tables, rows := loadSize(t, "DELTAFORGE_SNAPSHOT_TABLES", 40), loadSize(t, "DELTAFORGE_SNAPSHOT_ROWS", 50_000)
	binary(t)
	open := sources(t)
	for _, name := range []string{"mysql", "postgres"} {
		t.Run(name, func(t *testing.T) {
			src := open[name](t)
			src.input = strings.Replace(src.input, "snapshot: {mode: never}", "snapshot: {max_parallel_chunks: 4}", 1)
			total := makeTables(t, src, tables, rows)
			p := newProcess(t, src.input+"\noutput: {drop: {}}\n")
			began := time.Now()
			p.start()
			eventually(t, patience+time.Duration(total/10_000+tables)*time.Second, "the end of the loads", func() bool {
				return strings.Count(p.log.String(), " is done:") >= tables
			})
			took := time.Since(began)
			assert.Equal(t, tables, strings.Count(p.log.String(), " is done:"), "each table once")
			assert.Contains(t, p.log.String(), fmt.Sprintf("Snapshot of %d tables begins", tables))
			read, _ := p.metric("deltaforge_snapshot_rows_total")
			assert.GreaterOrEqual(t, read, float64(total))
			p.stop()
			t.Logf("%d rows of %d tables in %s, start of the process included; %d MB at most", total, tables, took.Round(time.Millisecond), p.peakKiB>>10)
		})
	}
}
