package mysqlcdc

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
)

// shown is one version of a table in an event.
type shown struct {
	DB      string `json:"db"`
	Table   string `json:"table"`
	Columns []struct {
		Name     string `json:"name"`
		Type     string `json:"type"`
		Nullable bool   `json:"nullable"`
	} `json:"columns"`
	Key     []string `json:"key"`
	Version string   `json:"schema_version"`
}

func (s *shown) String() string {
	if s == nil {
		return "-"
	}
	columns := make([]string, len(s.Columns))
	for i, c := range s.Columns {
		columns[i] = c.Name + " " + regexp.MustCompile(`int\(\d+\)`).ReplaceAllString(c.Type, "int") // MariaDB's display width
		if !c.Nullable {
			columns[i] += "!"
		}
	}
	return fmt.Sprintf("%s(%s; %s)", s.Table, strings.Join(columns, ", "), strings.Join(s.Key, ","))
}

// schemaChanges returns "table: old -> new" for each event of a shape, and the rows as rows does.
func schemaChanges(t *testing.T, got []received) (lines []string) {
	t.Helper()
	for _, g := range got {
		if g.event.Op != change.Schema {
			lines = append(lines, rows(t, []received{g})...)
			continue
		}
		var env struct {
			Before *shown `json:"before"`
			After  struct {
				DDL      string `json:"ddl"`
				Old, New *shown
			} `json:"after"`
			Source  struct{ DB, Table string } `json:"source"`
			Op      string                     `json:"op"`
			EventID string                     `json:"event_id"`
			Version string                     `json:"schema_version"`
		}
		require.NoError(t, json.Unmarshal([]byte(g.raw), &env), g.raw)
		require.Nil(t, env.Before)
		require.Equal(t, "s", env.Op)
		require.Equal(t, fmt.Sprintf(`{"db":%q,"table":%q}`, g.event.Table.Database, g.event.Table.Name), g.key)
		require.Equal(t, string(g.event.AppendID(nil)), env.EventID)
		require.NotEmpty(t, env.After.DDL)
		now := env.After.New
		if now == nil {
			now = env.After.Old
		}
		require.Equal(t, []string{now.DB, now.Table, now.Version}, []string{env.Source.DB, env.Source.Table, env.Version})
		require.Equal(t, now.Version, g.event.Table.Fingerprint())
		lines = append(lines, fmt.Sprintf("%s: %s -> %s", env.Source.Table, env.After.Old, env.After.New))
	}
	return lines
}

// TestSchemaChanges: what each kind of statement is as an event, in its place between the rows; and the same events, with the same
// ids, from any place at which the source is started again.
func TestSchemaChanges(t *testing.T) {
	for _, gtid := range []string{"true", "false"} {
		onBoth(t, func(t *testing.T, b *bench) {
			b.exec(t, "CREATE TABLE a (id INT PRIMARY KEY, v VARCHAR(10))", "CREATE TABLE ignored (id INT)")
			l := b.newLog(t, "use_gtid: "+gtid+"\nschema_changes: true\n"+
				fmt.Sprintf("tables: {include: [%q], exclude: [%q]}", b.db+".*", b.db+".ignored%"))
			r := start(t, l, checkpoint.Token{}).connected(t)
			from := r.tok
			b.exec(t, "INSERT INTO a VALUES (1, 'x')", "ALTER TABLE a ADD n INT NOT NULL FIRST", "INSERT INTO a VALUES (2, 2, 'y')",
				"CREATE INDEX i ON a (v)", "ALTER TABLE a COMMENT = 'nothing new'", "ALTER TABLE a DROP PRIMARY KEY, ADD PRIMARY KEY (n, id)",
				"INSERT INTO a VALUES (3, 3, 'z')", "TRUNCATE a",
				"CREATE TABLE b (id INT)", "RENAME TABLE a TO x, b TO a, x TO b", "INSERT INTO a VALUES (4)",
				"CREATE TABLE c LIKE b", "CREATE TABLE IF NOT EXISTS c (other INT)",
				"RENAME TABLE c TO ignored_c", "RENAME TABLE ignored_c TO c", "ALTER TABLE c RENAME TO d",
				"DROP TABLE ignored, d", "CREATE TABLE ignored (v INT)", "DROP TABLE a", "CREATE TABLE a (id INT)",
				"CREATE TABLE q AS SELECT CAST(1 AS SIGNED) AS one UNION SELECT 2", "INSERT INTO q VALUES (5)")
			one := b.query(t, "SELECT IF(VERSION() LIKE '%MariaDB%', 'int', 'bigint')")
			aba := "n int!, id int!, v varchar(10); "
			want := []string{
				`c {"id":1} - {"id":1,"v":"x"}`,
				"a: a(id int!, v varchar(10); id) -> a(n int!, id int!, v varchar(10); id)",
				`c {"id":2} - {"n":2,"id":2,"v":"y"}`,
				"a: a(n int!, id int!, v varchar(10); id) -> a(" + aba + "n,id)",
				`c {"n":3,"id":3} - {"n":3,"id":3,"v":"z"}`,
				"t  - -",
				"b: - -> b(id int; )",
				"a: a(" + aba + "n,id) -> a(id int; )", "b: b(id int; ) -> b(" + aba + "n,id)",
				"c  - {\"id\":4}",
				"c: - -> c(" + aba + "n,id)", "c: c(" + aba + "n,id) -> -", "c: - -> c(" + aba + "n,id)",
				"c: c(" + aba + "n,id) -> -", "d: - -> d(" + aba + "n,id)",
				"d: d(" + aba + "n,id) -> -", "a: a(id int; ) -> -", "a: - -> a(id int; )",
				"q: - -> q(one " + one + "!; )", `c  - {"one":1}`, `c  - {"one":2}`, `c  - {"one":5}`,
			}
			all := r.take(t, len(want))
			require.Equal(t, want, schemaChanges(t, all))
			require.EqualValues(t, 2, all[15].event.Index, "what is not captured counts")
			r.stop(t)

			// Who does not want them gets the rows under the same ids.
			var changed []received
			for _, g := range all {
				if g.event.Op != change.Schema {
					changed = append(changed, g)
				}
			}
			without := l.restarted(t)
			without.cfg.schemaChanges = false
			r = start(t, without, reparsed(from)).connected(t)
			require.Equal(t, ids(changed), ids(r.take(t, len(changed))))
			r.stop(t)

			places := map[checkpoint.Position]bool{}
			r = start(t, l.restarted(t), reparsed(from)).connected(t)
			n, tok := 0, from
			for n < len(want) {
				seg := r.segment(t)
				if seg.Rows != nil {
					batch, err := seg.Rows.Decode(t.Context(), nil)
					require.NoError(t, err)
					for i, m := range batch {
						again := receive(t, m)
						require.Equal(t, string(all[n].event.AppendID(nil)), string(again.event.AppendID(nil)))
						require.Equal(t, all[n].json["after"], again.json["after"])
						n++
						tok.Sent = again.event.Index
						if seg.Commit == nil || i < len(batch)-1 {
							b.resumes(t, l, tok, all[n:])
						}
					}
				}
				if seg.Commit != nil {
					tok = checkpoint.Token{Source: seg.Source, Commit: seg.Commit}
					if !places[seg.Commit] && seg.Rows != nil && n < len(want) {
						b.resumes(t, l, tok, all[n:])
					}
					places[seg.Commit] = true
				}
			}
		})
	}
}

// resumes checks that a new process that starts at tok delivers what is left.
func (b *bench) resumes(t *testing.T, l *mysqlLog, tok checkpoint.Token, left []received) {
	t.Helper()
	r := start(t, l.restarted(t), reparsed(tok)).connected(t)
	defer r.stop(t)
	require.Equal(t, ids(left), ids(r.take(t, len(left))), tok.String())
}

// TestSchemaChangeVersions: the shape in the event of a statement is, for every type, exactly that of the rows after it.
func TestSchemaChangeVersions(t *testing.T) {
	for _, options := range []string{"", "bigint: string\ntinyint1: boolean\nzero_date: null\n"} {
		onBothMetadata(t, func(t *testing.T, b *bench) {
			defer b.exec(t, "SET GLOBAL binlog_row_metadata = DEFAULT")
			var columns []string
			seen := map[string]bool{}
			for _, c := range typeCases() {
				if (c.only == "" || (c.only == "mariadb") == b.srv.IsMariaDB()) && !c.full && !seen[c.column] {
					seen[c.column] = true
					columns = append(columns, fmt.Sprintf("c%d %s", len(columns), c.column))
				}
			}
			require.Greater(t, len(columns), 60)
			chunks := slices.Collect(slices.Chunk(columns, typesPerTable))
			r := start(t, b.newLog(t, "schema_changes: true\n"+options), checkpoint.Token{}).connected(t)
			for i, chunk := range chunks {
				b.exec(t, fmt.Sprintf("CREATE TABLE c%d (%s, u INT NOT NULL, id INT, UNIQUE (u), PRIMARY KEY (id)) ROW_FORMAT=DYNAMIC", i,
					strings.Join(chunk, ", ")), fmt.Sprintf("INSERT INTO c%d (id) VALUES (1)", i))
			}
			got := r.take(t, 2*len(chunks))
			for i := 0; i < len(got); i += 2 {
				shape, row := got[i].event.Change.New, got[i+1].event.Table
				require.Equal(t, row.Columns, shape.Columns)
				require.Equal(t, row.Key, shape.Key)
				require.Equal(t, row.Fingerprint(), shape.Fingerprint())
			}
		})
	}
}
