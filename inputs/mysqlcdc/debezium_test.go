package mysqlcdc

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/testenv"
	"github.com/deltaforge/deltaforge/internal/testenv/debeziumtest"
)

// debezium runs Debezium's connector on the bench's database. Its topics have the prefix that a log of newLog has for a name.
func (b *bench) debezium(t *testing.T, more map[string]string) *testenv.Debezium {
	t.Helper()
	dsn, err := mysql.ParseDSN(b.srv.DSN(""))
	require.NoError(t, err)
	host, port, err := net.SplitHostPort(dsn.Addr)
	require.NoError(t, err)
	p := map[string]string{
		"connector.class": "io.debezium.connector.mysql.MySqlConnector", "database.hostname": host, "database.port": port,
		"database.user": dsn.User, "database.password": dsn.Passwd, "database.server.id": "77001", "database.include.list": b.db,
		"include.schema.changes": "false", "topic.prefix": "test_" + b.db,
	}
	maps.Copy(p, more)
	return testenv.StartDebezium(t, p)
}

// messages reads until it has n messages and the transaction of the last has ended.
func (r *run) messages(t *testing.T, n int) (batch service.MessageBatch) {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		require.True(t, time.Now().Before(end), "%d of %d messages", len(batch), n)
		seg := r.segment(t)
		if seg.Rows != nil {
			var err error
			batch, err = seg.Rows.Decode(t.Context(), batch)
			require.NoError(t, err)
			batch = slices.DeleteFunc(batch, func(m *service.Message) bool { ev, _ := change.FromMessage(m); return ev.Silent })
		}
		if len(batch) >= n && seg.Commit != nil {
			return batch
		}
	}
}

// sameRecord compares a message with Debezium's record, but for what is told apart by a clock or a connection, and returns where they differ.
func sameRecord(t *testing.T, want testenv.DebeziumRecord, m *service.Message) (differ []string) {
	t.Helper()
	ev, ok := change.FromMessage(m)
	require.True(t, ok)
	return debeziumtest.Same(t, want, m, ev.Table.Source.Name+"."+ev.Table.FullName(), func(path, _ string) bool { return path == "source.thread" })
}

// TestDebezium compares the format debezium with what Debezium makes of the same log, field by field: every type, and every operation.
func TestDebezium(t *testing.T) {
	b := newBench(t, testenv.MySQL(t))
	b.lax(t)
	cases := slices.DeleteFunc(typeCases(), func(c typeCase) bool { return c.only == "mariadb" || c.full })
	chunks := slices.Collect(slices.Chunk(cases, typesPerTable))
	statements := []string{}
	for i, chunk := range chunks {
		columns, values := "", ""
		for j, c := range chunk {
			columns += fmt.Sprintf(", c%d %s", j, c.column)
			values += ", " + c.insert
		}
		b.exec(t, fmt.Sprintf("CREATE TABLE types%d (id INT PRIMARY KEY%s) ROW_FORMAT=DYNAMIC", i, columns))
		statements = append(statements, fmt.Sprintf("INSERT INTO types%d VALUES (1%s)", i, values))
	}
	b.exec(t, "CREATE TABLE ops (id INT, d DECIMAL(5,2), v VARCHAR(10), b BLOB, PRIMARY KEY (id, d))", "CREATE TABLE keyless (n INT NOT NULL)",
		"CREATE TABLE z (id INT PRIMARY KEY)", "INSERT INTO z VALUES (1)")
	d := b.debezium(t, map[string]string{"key.converter.schemas.enable": "true", "value.converter.schemas.enable": "true", "header.converter.schemas.enable": "true"})
	d.Until(t, debeziumtest.IsEnd) // the snapshot
	r := start(t, b.newLog(t, "format: debezium"), checkpoint.Token{}).connected(t)
	described := start(t, b.newLog(t, "format: debezium\ndebezium: {schemas: true}\nserver_id: 77002"), checkpoint.Token{}).connected(t)
	b.exec(t, append(statements, "INSERT INTO ops VALUES (1, 1.5, 'a', NULL)", "UPDATE ops SET v = 'b'", "UPDATE ops SET id = 2", "UPDATE ops SET d = -1, v = NULL", "DELETE FROM ops",
		"BEGIN", "INSERT INTO ops VALUES (3, 0, 'x', 'y'), (4, 0, '', '')", "INSERT INTO keyless VALUES (1)", "UPDATE keyless SET n = 2", "DELETE FROM keyless", "COMMIT",
		"TRUNCATE ops", "INSERT INTO z VALUES (2)")...)
	records := d.Until(t, debeziumtest.IsEnd)
	// A tombstone without a key tells nothing, and a compacted topic refuses it.
	records = slices.DeleteFunc(records, func(r testenv.DebeziumRecord) bool { return r.Key == nil && r.Value == nil })
	batch := r.messages(t, len(records))
	require.Len(t, batch, len(records))
	var differ []string
	bare := debeziumtest.Payloads(t, records)
	for i, m := range batch {
		for _, d := range sameRecord(t, bare[i], m) {
			if i < len(chunks) {
				var j int
				_, err := fmt.Sscanf(d, "after.c%d:", &j)
				require.NoError(t, err, d)
				_, d, _ = strings.Cut(d, ": ")
				d = fmt.Sprintf("%.50s %.50s: %.100s", chunks[i][j].column, chunks[i][j].insert, d)
			}
			differ = append(differ, d)
		}
	}
	assert.Equal(t, debeziumDiffers(), differ)
	var schemas []string
	for i, m := range described.messages(t, len(records)) {
		for _, d := range sameRecord(t, records[i], m) {
			if !strings.HasPrefix(d, "payload.") {
				schemas = append(schemas, d)
			}
		}
	}
	assert.Empty(t, schemas)
}

// debeziumDiffers is where Debezium delivers another value than the server has. Ours are the server's. The document "From Debezium" has the
// reasons.
func debeziumDiffers() []string {
	return []string{
		"YEAR 0: 1900, here 0",
		"VARCHAR(20) CHARACTER SET swe7 'Åäé': \"]{`\", here \"Åäé\"",
		"VARCHAR(20) CHARACTER SET armscii8 'Հայ': \"Ð³Û\", here \"Հայ\"",
		"ENUM('a','it''s','ü,x') 'ü,x': \"ü\\\\,x\", here \"ü,x\"",
		"JSON '[-9223372036854775808, 65536, -32769, 1.0, 1e300]: \"[-9223372036854775808,65536,-32769,1.0,100000000000000005250476025520442024870446858110815915491585",
		"JSON JSON_ARRAY(CAST(1.10 AS DECIMAL(5,2)), CAST('2024-: \"[1.10,\\\"2024-02-29\\\",\\\"2024-02-29 01:02:03.4\\\",\\\"02:0-3:0-3\\\"]\", here \"[1.10,\\\"2024-02-29\\\",\\\"2024-",
		"FLOAT -1.175494351e-38: -1.17549435E-38, here -1.1754944e-38",
		"DATETIME '0001-01-01 00:00:00': 978307200000, here -62135596800000",
		"DATE '0001-01-01': 11323, here -719162",
		"TINYTEXT CHARACTER SET koi8u 'Їжак': \"╥жак\", here \"Їжак\"",
		"ENUM('back\\\\slash','b') 'back\\\\slash': \"back\\\\\\\\slash\", here \"back\\\\slash\"",
		"JSON JSON_ARRAY(CAST('-838:59:59' AS TIME), CAST('0000-: \"[\\\"839:0-60:0-59\\\",\\\"0000-00-00\\\",\\\"9999-12-31 23:0-5:59.999999\\\"]\", here \"[\\\"-838:59:59.000000\\\",\\",
		"JSON JSON_ARRAY(x'00ff', b'101', CAST(2024 AS YEAR)): \"[\\\"AP8=\\\",\\\"BQ==\\\",2024]\", here \"[\\\"base64:type15:AP8=\\\",\\\"base64:type15:BQ==\\\",2024]\"",
		"VECTOR(3) TO_VECTOR('[0.1,3.4028235e38,-1.1754944e-38]'): [0.1,3.4028235E38,-1.17549435E-38], here [0.1,3.4028235e+38,-1.1754944e-38]",
		"JSON '[0.1,-0.0,1e-7,123456789.125]': \"[0.1,-0.0,0.0000000999999999999999954748111825886258685613938723690807819366455078125,123456789.125",
	}
}
