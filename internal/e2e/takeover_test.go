package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/connectoffsets"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// The rows of the transaction in which Debezium stops: more than it can print while nobody reads.
const (
	takeoverRows = 40_000
	takeoverRead = 700
)

// TestDebeziumTakeOver stops Debezium inside a large transaction, imports its offset, and goes on: the rows are those that Debezium has not saved
// as delivered, each once, in order. Killed, it has printed some that it had not saved: Debezium itself would repeat those.
func TestDebeziumTakeOver(t *testing.T) {
	cases := map[string]bool{"mysql killed": true, "postgres stopped": true}
	if os.Getenv("DELTAFORGE_TEST_LONG") != "" {
		for _, name := range []string{"mysql stopped", "postgres killed"} {
			cases[name] = true
		}
	}
	for name := range cases {
		t.Run(name, func(t *testing.T) {
			product, end, _ := strings.Cut(name, " ")
			takeOverFrom(t, product, end == "killed")
		})
	}
}

func takeOverFrom(t *testing.T, product string, killed bool) {
	t.Helper()
	var src source
	var dsn string
	more := map[string]string{}
	switch product {
	case "postgres":
		srv := testenv.Postgres(t)
		src = postgresSource(t, srv)
		dsn = srv.DSN(src.slug)
		more["slot.drop.on.stop"] = "false"
		src.input = strings.Replace(src.input, "slot: "+src.slot, "slot: "+src.slug+"_reference\n    publication: reference", 1)
		src.input = strings.Replace(src.input, `["public.*"]`, `["public.*"], exclude: ["public.other"]`, 1)
		more["table.exclude.list"] = "public.other"
	default:
		srv := testenv.MySQL(t)
		src = mysqlSource(t, srv)
		dsn = srv.DSN("")
		src.input = strings.Replace(src.input, `.*"]`, `.*"], exclude: ["`+src.slug+`.other"]`, 1)
		more["table.exclude.list"] = src.slug + ".other"
	}
	exec := func(statements ...string) {
		t.Helper()
		tx, err := src.db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		for _, q := range statements {
			_, err := tx.ExecContext(t.Context(), q)
			require.NoError(t, err, "%.200s", q)
		}
		require.NoError(t, tx.Commit())
	}
	for _, table := range []string{"rows_", "other", "z"} {
		exec("CREATE TABLE " + table + " (id INT PRIMARY KEY, n INT)")
	}
	offsets := filepath.Join(givenDir(t), "offsets.dat")
	more["offset.storage"], more["offset.storage.file.filename"] = "org.apache.kafka.connect.storage.FileOffsetBackingStore", offsets
	more["offset.flush.interval.ms"], more["max.batch.size"], more["max.queue.size"] = "0", "50", "200"
	d := debeziumFor(t, src, dsn, more)
	awaitDebezium(t, d, func(i int) { exec("INSERT INTO z VALUES (" + strconv.Itoa(i) + ", 0)") })

	var statements []string
	for from := 0; from < takeoverRows; from += 500 {
		var rows []string
		for id := from; id < from+500; id++ {
			rows = append(rows, fmt.Sprintf("(%d, 0)", id))
		}
		statements = append(statements, "INSERT INTO rows_ VALUES "+strings.Join(rows, ","), "INSERT INTO other VALUES "+strings.Join(rows[:1+from/500%7], ","))
	}
	exec(statements...)
	exec("INSERT INTO rows_ VALUES (" + strconv.Itoa(takeoverRows) + ", 0)")
	seen := 0
	last := d.Until(t, func(r testenv.DebeziumRecord) bool {
		if strings.HasSuffix(r.Topic, ".rows_") {
			seen++
		}
		return seen == takeoverRead
	})
	require.NotEmpty(t, last)
	var rest []testenv.DebeziumRecord
	if killed {
		// Debezium writes its file over itself: a kill can leave half of one. Then what was there before is put back.
		var whole []byte
		eventually(t, time.Minute, "offsets that are whole", func() bool {
			text, err := os.ReadFile(offsets)
			whole = text
			return err == nil && !isTorn(text)
		})
		rest = d.Kill()
		if text, err := os.ReadFile(offsets); err != nil || isTorn(text) {
			require.NoError(t, os.WriteFile(offsets, whole, 0o600))
		}
	} else {
		rest = d.Stop()
	}
	for _, r := range rest {
		if strings.HasSuffix(r.Topic, ".rows_") {
			seen++
		}
	}
	require.Less(t, seen, takeoverRows, "Debezium has come to the end of the transaction")
	if src.slot != "" {
		eventually(t, time.Minute, "the slot given back", func() bool {
			var active bool
			err := src.db.QueryRowContext(t.Context(), "SELECT active FROM pg_replication_slots WHERE slot_name = $1", src.slug+"_reference").Scan(&active)
			return err == nil && !active
		})
	}

	p := newProcess(t, src.input+`
pipeline: { threads: 1, processors: [ { mapping: 'root = "%s %v".format(@table, this.after.id)' } ] }
output:
  file: { path: out.txt, codec: lines }
`)
	said := importOffset(t, p, offsets)
	if product == "mysql" { // by places, the same count
		alone := newProcess(t, strings.Replace(src.input, "    snapshot:", "    use_gtid: false\n    snapshot:", 1)+"\noutput: { drop: {} }\n")
		assert.Equal(t, sentOf(t, said), sentOf(t, importOffset(t, alone, offsets)))
	}
	p.start()
	exec("INSERT INTO z VALUES (-1, 0)")
	var got []string
	eventually(t, 2*time.Minute, "the last row", func() bool {
		text, _ := os.ReadFile(filepath.Join(p.dir, "out.txt"))
		got = strings.Split(strings.TrimSpace(string(text)), "\n")
		return strings.HasSuffix(string(text), "z -1\n")
	})
	p.stop()
	require.NotEmpty(t, got)
	first, err := strconv.Atoi(strings.TrimPrefix(got[0], "rows_ "))
	require.NoError(t, err, got[0])
	var want []string
	for id := first; id <= takeoverRows; id++ {
		want = append(want, "rows_ "+strconv.Itoa(id))
	}
	require.Equal(t, append(want, "z -1"), got)
	assert.Positive(t, first)
	assert.LessOrEqual(t, first, seen, "rows are lost")
	if !killed {
		assert.Equal(t, seen, first, "rows come twice")
	}
}

func isTorn(offsets []byte) bool {
	all, err := connectoffsets.Read(offsets)
	return err != nil || len(all) == 0
}

// importOffset imports a file of offsets for a process, and returns what is said.
func importOffset(t *testing.T, p *process, offsets string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), p.bin, "checkpoint", "import", "--debezium", offsets, "--config", p.config)
	cmd.Dir, cmd.Env = p.dir, append(environment(t, p.dir), p.env...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	cmd = exec.CommandContext(t.Context(), p.bin, "checkpoint", "import", "--debezium", offsets, "--config", p.config)
	cmd.Dir, cmd.Env = p.dir, append(environment(t, p.dir), p.env...)
	again, err := cmd.CombinedOutput()
	require.Error(t, err)
	assert.Contains(t, string(again), "has a position already")
	return string(out)
}

// sentOf returns how much of a transaction an import found delivered.
func sentOf(t *testing.T, said string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^Saved under .*(\+\d+)$`).FindStringSubmatch(said)
	require.NotNil(t, m, said)
	return m[1]
}
