package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
	"github.com/deltaforge/deltaforge/internal/typematrix"
)

// debeziumFor runs Debezium's connector on a source's database, with the topics that the source's name leads to.
func debeziumFor(t *testing.T, src source, dsn string, more map[string]string) *testenv.Debezium {
	t.Helper()
	p := map[string]string{"topic.prefix": src.slug, "snapshot.mode": "no_data", "include.schema.changes": "false"}
	if src.slot != "" {
		conf, err := pgx.ParseConfig(dsn)
		require.NoError(t, err)
		maps.Copy(p, map[string]string{
			"connector.class": "io.debezium.connector.postgresql.PostgresConnector", "database.hostname": conf.Host, "database.port": strconv.Itoa(int(conf.Port)),
			"database.user": conf.User, "database.password": conf.Password, "database.dbname": conf.Database, "plugin.name": "pgoutput",
			"slot.name": src.slug + "_reference", "slot.drop.on.stop": "true", "publication.name": "reference", "schema.include.list": "public",
		})
	} else {
		conf, err := mysql.ParseDSN(dsn)
		require.NoError(t, err)
		host, port, err := net.SplitHostPort(conf.Addr)
		require.NoError(t, err)
		maps.Copy(p, map[string]string{
			"connector.class": "io.debezium.connector.mysql.MySqlConnector", "database.hostname": host, "database.port": port,
			"database.user": conf.User, "database.password": conf.Passwd, "database.server.id": "77010", "database.include.list": src.slug,
		})
	}
	maps.Copy(p, more)
	return testenv.StartDebezium(t, p)
}

// TestDebeziumTransactions compares the records of Debezium's transaction topic with the markers of transactions, schemas included.
func TestDebeziumTransactions(t *testing.T) {
	mysqlServer, postgres := testenv.MySQL(t), testenv.Postgres(t)
	for name, open := range map[string]func(t *testing.T) (source, string){
		"mysql": func(t *testing.T) (source, string) { return mysqlSource(t, mysqlServer), mysqlServer.DSN("") },
		"postgres": func(t *testing.T) (source, string) {
			src := postgresSource(t, postgres)
			return src, postgres.DSN(src.slug)
		},
	} {
		t.Run(name, func(t *testing.T) {
			src, dsn := open(t)
			exec := func(statements ...string) {
				t.Helper()
				tx, err := src.db.BeginTx(t.Context(), nil)
				require.NoError(t, err)
				for _, q := range statements {
					_, err := tx.ExecContext(t.Context(), q)
					require.NoError(t, err, q)
				}
				require.NoError(t, tx.Commit())
			}
			for _, table := range []string{"a", "b", "z"} {
				exec("CREATE TABLE " + table + " (id INT PRIMARY KEY, n INT)")
				if src.slot != "" {
					exec("ALTER TABLE " + table + " OWNER TO deltaforge")
				}
			}
			p := newProcess(t, strings.Replace(src.input, "    snapshot:", "    format: debezium\n    debezium: { schemas: true }\n    transactions: true\n    snapshot:", 1)+`
pipeline: { threads: 1 }
output:
  file: { path: out.jsonl, codec: lines }
`)
			p.start()
			awaitSaved(t, p)
			d := debeziumFor(t, src, dsn, map[string]string{
				"provide.transaction.metadata": "true", "key.converter.schemas.enable": "true", "value.converter.schemas.enable": "true",
			})
			awaitDebezium(t, d, func(i int) { exec("INSERT INTO z VALUES (" + strconv.Itoa(i) + ", 0)") })
			exec("INSERT INTO a VALUES (1, 1), (2, 2)", "INSERT INTO b VALUES (1, 1)", "UPDATE a SET n = 3 WHERE id = 1", "DELETE FROM b", "UPDATE a SET id = 5 WHERE id = 2")
			exec("INSERT INTO b VALUES (7, 7)")
			exec("INSERT INTO z VALUES (-1, -1)")
			var want [][]byte
			ends := 0
			for _, r := range d.Until(t, func(r testenv.DebeziumRecord) bool {
				if strings.HasSuffix(r.Topic, ".z") && bytes.Contains(r.Value, []byte(`"n":-1`)) {
					ends++
				}
				return ends > 0 && strings.HasSuffix(r.Topic, ".transaction") && bytes.Contains(r.Value, []byte(`"END"`))
			}) {
				if r.Topic == src.slug+".transaction" {
					want = append(want, r.Value)
				}
			}
			require.GreaterOrEqual(t, len(want), 6)
			want = want[len(want)-6:]
			var got [][]byte
			eventually(t, time.Minute, "the last transaction", func() bool {
				text, _ := os.ReadFile(filepath.Join(p.dir, "out.jsonl"))
				got = nil
				last := false
				for line := range bytes.Lines(text) {
					last = last || bytes.Contains(line, []byte(`"n":-1`))
					if bytes.Contains(line, []byte("TransactionMetadataValue")) {
						got = append(got, bytes.TrimSpace(line))
					}
				}
				return last && len(got) > 0 && bytes.Contains(got[len(got)-1], []byte(`"END"`))
			})
			require.GreaterOrEqual(t, len(got), 6)
			got = got[len(got)-6:]
			for i := range want {
				differ, err := typematrix.Differences(sorted(t, want[i]), sorted(t, got[i]))
				require.NoError(t, err)
				var others []string
				for _, d := range differ {
					if !strings.HasPrefix(d, "payload.ts_ms:") && (src.slot == "" || !strings.HasPrefix(d, "payload.id:")) {
						others = append(others, d)
					}
				}
				assert.Empty(t, others)
				assert.Equal(t, number(t, want[i]), number(t, got[i]))
			}
			p.stop()
		})
	}
}

// awaitDebezium inserts rows into the table z until Debezium streams them.
func awaitDebezium(t *testing.T, d *testenv.Debezium, insert func(i int)) {
	t.Helper()
	ready := make(chan struct{})
	go func() {
		defer close(ready)
		d.Until(t, func(r testenv.DebeziumRecord) bool { return strings.HasSuffix(r.Topic, ".z") })
	}()
	for i := 0; ; i++ {
		insert(i)
		select {
		case <-ready:
			return
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// sorted is a marker with its tables in the order of their names: Debezium has no order for them.
func sorted(t *testing.T, marker []byte) []byte {
	t.Helper()
	var m map[string]any
	require.NoError(t, json.Unmarshal(marker, &m))
	payload, _ := m["payload"].(map[string]any)
	if list, ok := payload["data_collections"].([]any); ok {
		slices.SortFunc(list, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	}
	text, err := json.Marshal(m)
	require.NoError(t, err)
	return text
}

// number is the name of a transaction, without the place that Debezium adds for PostgreSQL.
func number(t *testing.T, marker []byte) string {
	t.Helper()
	var m struct{ Payload struct{ ID string } }
	require.NoError(t, json.Unmarshal(marker, &m))
	if xid, _, ok := strings.Cut(m.Payload.ID, ":"); ok && !strings.Contains(xid, "-") {
		return xid
	}
	return m.Payload.ID
}
