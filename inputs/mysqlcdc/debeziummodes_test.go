package mysqlcdc

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/testenv"
	"github.com/deltaforge/deltaforge/internal/testenv/debeziumtest"
)

// TestDebeziumModes compares every type in the other modes. It takes a JVM for each.
func TestDebeziumModes(t *testing.T) {
	if os.Getenv("DELTAFORGE_TEST_LONG") == "" {
		t.Skip("a part of `task test:debezium`")
	}
	b := newBench(t, testenv.MySQL(t))
	b.lax(t)
	cases := slices.DeleteFunc(typeCases(), func(c typeCase) bool { return c.only == "mariadb" || c.full })
	chunks := slices.Collect(slices.Chunk(cases, typesPerTable))
	for i, chunk := range chunks {
		columns := ""
		for j, c := range chunk {
			columns += fmt.Sprintf(", c%d %s", j, c.column)
		}
		b.exec(t, fmt.Sprintf("CREATE TABLE types%d (id INT PRIMARY KEY%s) ROW_FORMAT=DYNAMIC", i, columns))
	}
	b.exec(t, "CREATE TABLE z (id INT PRIMARY KEY)", "INSERT INTO z VALUES (0)")
	for n, mode := range []struct {
		name, ours string
		debezium   map[string]string
		differ     []string
	}{
		{"text", "{decimal: string, time_precision: isostring, binary: hex, bigint_unsigned: precise}", map[string]string{
			"decimal.handling.mode": "string", "time.precision.mode": "isostring", "binary.handling.mode": "hex", "bigint.unsigned.handling.mode": "precise",
		}, []string{
			"failed: column c32 of types0 has a value with no form in the format debezium: it is no time of a day; time_precision: adaptive has it",
			"failed: column c27 of types3 has a value with no form in the format debezium: it is no time of a day; time_precision: adaptive has it",
			`DATETIME '0001-01-01 00:00:00': "2001-01-01T00:00:00Z", here "0001-01-01T00:00:00Z"`, `TIME '24:00:00': "00:00:00Z", here null`,
			`DATE '0001-01-01': "2001-01-01Z", here "0001-01-01Z"`,
		}},
		{"connect", "{decimal: double, time_precision: connect, binary: base64-url-safe}", map[string]string{
			"decimal.handling.mode": "double", "time.precision.mode": "connect", "binary.handling.mode": "base64-url-safe",
		}, []string{
			"failed: column c32 of types0 has a value with no form in the format debezium: it is no time of a day; time_precision: adaptive has it",
			"failed: column c27 of types3 has a value with no form in the format debezium: it is no time of a day; time_precision: adaptive has it",
		}},
		{"nanoseconds", "{time_precision: nanoseconds, binary: base64}", map[string]string{"time.precision.mode": "nanoseconds", "binary.handling.mode": "base64"}, []string{
			"failed: column c25 of types0 has a value with no form in the format debezium: it is no number of 64 bits; time_precision: connect or isostring have it",
			"failed: column c18 of types3 has a value with no form in the format debezium: it is no number of 64 bits; time_precision: connect or isostring have it",
			"DATETIME '0001-01-01 00:00:00': 978307200000000000, here null",
		}},
		{"microseconds", "{time_precision: microseconds}", map[string]string{"time.precision.mode": "microseconds"}, []string{
			"DATETIME '0001-01-01 00:00:00': 978307200000000, here -62135596800000000",
		}},
	} {
		t.Run(mode.name, func(t *testing.T) {
			for i := range chunks {
				b.exec(t, fmt.Sprintf("DELETE FROM types%d", i))
			}
			b.exec(t, "DELETE FROM z", fmt.Sprintf("INSERT INTO z VALUES (-%d)", n+1))
			d := b.debezium(t, mode.debezium)
			d.Until(t, debeziumtest.IsEnd) // the snapshot
			r := start(t, b.newLog(t, "format: debezium\ndebezium: "+mode.ours), checkpoint.Token{}).connected(t)
			for i, chunk := range chunks {
				values := ""
				for _, c := range chunk {
					values += ", " + c.insert
				}
				b.exec(t, fmt.Sprintf("INSERT INTO types%d VALUES (%d%s)", i, n+1, values))
			}
			b.exec(t, fmt.Sprintf("INSERT INTO z VALUES (%d)", n+1))
			records := d.Until(t, debeziumtest.IsEnd)
			batch := r.messages(t, len(records))
			require.Len(t, batch, len(records))
			var differ []string
			for i, m := range batch {
				if err := m.GetError(); err != nil {
					differ = append(differ, "failed: "+strings.ReplaceAll(err.Error(), b.db+".", ""))
				}
				for _, d := range sameRecord(t, records[i], m) {
					var j int
					if _, err := fmt.Sscanf(d, "after.c%d:", &j); err != nil || i >= len(chunks) {
						differ = append(differ, fmt.Sprintf("%.200s", d))
						continue
					}
					_, d, _ = strings.Cut(d, ": ")
					d = fmt.Sprintf("%.50s %.50s: %.100s", chunks[i][j].column, chunks[i][j].insert, d)
					if !slices.Contains(debeziumDiffers(), d) {
						differ = append(differ, d)
					}
				}
			}
			assert.Equal(t, mode.differ, differ)
		})
	}
}
