package postgrescdc

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/testenv"
	"github.com/deltaforge/deltaforge/internal/testenv/debeziumtest"
)

// debezium runs Debezium's connector on the database. Its topics have the prefix that a source of the database has for a name.
func (d *database) debezium(t *testing.T, more map[string]string) *testenv.Debezium {
	t.Helper()
	conf, err := pgx.ParseConfig(d.dsn)
	require.NoError(t, err)
	p := map[string]string{
		"connector.class": "io.debezium.connector.postgresql.PostgresConnector", "database.hostname": conf.Host,
		"database.port": strconv.Itoa(int(conf.Port)), "database.user": conf.User, "database.password": conf.Password, "database.dbname": d.name,
		"plugin.name": "pgoutput", "slot.name": d.name + "_reference", "slot.drop.on.stop": "true", "publication.name": "reference",
		"schema.include.list": "public", "topic.prefix": d.name,
	}
	maps.Copy(p, more)
	return testenv.StartDebezium(t, p)
}

// messages reads until there are n messages and the transaction of the last one has ended.
func (s *stream) messages(n int) (batch service.MessageBatch) {
	s.t.Helper()
	for end := time.Now().Add(5 * waitFor); ; {
		require.True(s.t, time.Now().Before(end), "%d of %d messages", len(batch), n)
		seg := s.next()
		if seg.Rows != nil {
			var err error
			batch, err = seg.Rows.Decode(s.t.Context(), batch)
			require.NoError(s.t, err)
			batch = slices.DeleteFunc(batch, func(m *service.Message) bool { ev, _ := change.FromMessage(m); return ev.Silent })
		}
		if len(batch) >= n && seg.Commit != nil {
			return batch
		}
	}
}

// sameRecord compares a message with Debezium's record, but for what is told apart by a clock, and returns where they differ.
func sameRecord(t *testing.T, want testenv.DebeziumRecord, m *service.Message) (differ []string) {
	t.Helper()
	ev, ok := change.FromMessage(m)
	require.True(t, ok)
	topic := ev.Table.Source.Name + "." + ev.Table.FullName()
	if ev.Op == change.Message {
		topic = ev.Table.Source.Name + ".message"
	}
	return debeziumtest.Same(t, want, m, topic, func(path, difference string) bool {
		switch path {
		case "source.sequence":
			return true
		case "source.ts_ms", "source.ts_us", "source.ts_ns": // of a message outside of a transaction, which has no time in the log
			return assert.Zero(t, ev.Tx.XID, difference)
		default:
			return false
		}
	})
}

// TestDebezium compares the format debezium with what Debezium makes of the same log, field by field: every type, and every operation.
func TestDebezium(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE EXTENSION hstore", "CREATE EXTENSION citext", "CREATE EXTENSION ltree")
	d.exec(slices.DeleteFunc(typesOfCases(), func(s string) bool { return strings.Contains(s, "feeling") })...) // Debezium does not start with it
	cases := slices.DeleteFunc(slices.Concat(typeCases(), moreTypeCases()), func(c typeCase) bool {
		return c.typ == "feeling" || c.needs != "" && !slices.Contains([]string{"hstore", "citext", "ltree"}, c.needs) || special(c)
	})
	chunks := slices.Collect(slices.Chunk(cases, typesPerTable))
	statements := []string{}
	for i, chunk := range chunks {
		columns, values := "", ""
		for j, c := range chunk {
			columns += fmt.Sprintf(", c%d %s", j, c.typ)
			values += ", " + c.literal
		}
		d.exec(fmt.Sprintf("CREATE TABLE types%d (id INT PRIMARY KEY%s)", i, columns))
		statements = append(statements, fmt.Sprintf("INSERT INTO types%d VALUES (1%s)", i, values))
	}
	d.exec("CREATE TABLE ops (id int, d numeric(5,2), v varchar(10), n int NOT NULL, day date NOT NULL, big text, raw bytea, l text[], i int[], u uuid[], PRIMARY KEY (id, d))",
		"ALTER TABLE ops ALTER big SET STORAGE EXTERNAL, ALTER raw SET STORAGE EXTERNAL, ALTER l SET STORAGE EXTERNAL, ALTER i SET STORAGE EXTERNAL, ALTER u SET STORAGE EXTERNAL",
		"CREATE TABLE whole (id int PRIMARY KEY, v text)", "ALTER TABLE whole REPLICA IDENTITY FULL", "CREATE TABLE keyless (n int NOT NULL)", "ALTER TABLE keyless REPLICA IDENTITY FULL",
		"CREATE TABLE z (id int PRIMARY KEY)", "INSERT INTO z VALUES (1)")
	reference := d.debezium(t, map[string]string{"key.converter.schemas.enable": "true", "value.converter.schemas.enable": "true", "header.converter.schemas.enable": "true"})
	reference.Until(t, debeziumtest.IsEnd) // the snapshot
	source, _ := d.source("format: debezium")
	s := d.run(source, checkpoint.Token{})
	source, _ = d.source("format: debezium\ndebezium: {schemas: true}\nslot: " + d.name + "_described")
	described := d.run(source, checkpoint.Token{})
	d.exec(statements...)
	d.exec("INSERT INTO ops VALUES (1, 1.5, 'a', 1, '2024-02-29', repeat('x', 9000), convert_to(repeat('x', 9000), 'UTF8'), ARRAY[repeat('x', 9000)], array_fill(7, ARRAY[5000]), array_fill('3e11fa47-71ca-11e1-9e33-c80aa9429562'::uuid, ARRAY[500]))",
		"UPDATE ops SET v = 'b'", "UPDATE ops SET id = 2", "UPDATE ops SET d = -1", "DELETE FROM ops",
		"BEGIN; INSERT INTO whole VALUES (1, 'a'), (2, NULL); UPDATE whole SET v = 'b'; UPDATE whole SET id = 3 WHERE id = 1; DELETE FROM whole; INSERT INTO keyless VALUES (1); COMMIT",
		"TRUNCATE ops", "SELECT pg_logical_emit_message(true, 'foo', 'bar')", "SELECT pg_logical_emit_message(false, '', '')", "INSERT INTO z VALUES (2)")
	records := reference.Until(t, debeziumtest.IsEnd)
	batch := s.messages(len(records))
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
				d = fmt.Sprintf("%.50s %.50s: %.100s", chunks[i][j].typ, chunks[i][j].literal, d)
			}
			differ = append(differ, d)
		}
	}
	assert.Equal(t, debeziumDiffers(), differ)
	schemas := map[string]bool{}
	for i, m := range described.messages(len(records)) {
		for _, d := range sameRecord(t, records[i], m) {
			path, both, _ := strings.Cut(d, ": ")
			leftOut := strings.HasPrefix(both, "nothing, here {") // which is among the values, too
			image, column, ofColumn := strings.Cut(path, ".fields.c")
			switch {
			case strings.HasPrefix(d, "payload."), ofColumn && image == "schema.fields.before", leftOut: // before has the same fields as after
			case ofColumn && i < len(chunks):
				n, rest, _ := strings.Cut(column, ".")
				j, err := strconv.Atoi(n)
				require.NoError(t, err)
				schemas[chunks[i][j].typ+" "+rest] = true
			default:
				schemas[d] = true
			}
		}
	}
	// Enums are text in our schemas, and arrays of bits are arrays.
	assert.Equal(t, []string{
		"bit(1)[] type", "bit(3)[] name", "bit(3)[] parameters", "bit(3)[] type", "bit(3)[] version",
		"mood name", "mood parameters", "mood version", "mood[] items.name", "mood[] items.optional", "mood[] items.parameters", "mood[] items.version",
		"numeric(5,-2) parameters.scale", "tsvector[] items.optional",
	}, slices.Sorted(maps.Keys(schemas)))
}

// special reports numbers that end Debezium with an error, or ours with one.
func special(c typeCase) bool {
	numeric := strings.HasPrefix(c.typ, "numeric") && c.typ != "numrange"
	return numeric && (strings.Contains(c.literal, "NaN") || strings.Contains(c.literal, "nfinity"))
}
