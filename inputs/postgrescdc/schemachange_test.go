package postgrescdc

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// shapeEvent is what the tests compare of an event: its id, and its images or what became of which table.
func shapeEvent(t *testing.T, m *service.Message) string {
	t.Helper()
	ev, ok := change.FromMessage(m)
	require.True(t, ok)
	id, _ := m.MetaGet(change.MetaEventID)
	if ev.Op != change.Schema {
		return id + " " + short(t, m)
	}
	require.NoError(t, m.GetError())
	b, err := m.AsBytes()
	require.NoError(t, err)
	var body struct {
		EventID       string          `json:"event_id"`
		SchemaVersion string          `json:"schema_version"`
		After         json.RawMessage `json:"after"`
	}
	require.NoError(t, json.Unmarshal(b, &body))
	require.Equal(t, id, body.EventID)
	require.Equal(t, ev.Table.Fingerprint(), body.SchemaVersion)
	key, ok := m.MetaGet(change.MetaKey)
	require.True(t, ok)
	require.Equal(t, fmt.Sprintf(`{"db":%q,"schema":%q,"table":%q}`, ev.Table.Database, ev.Table.Schema, ev.Table.Name), key)
	return fmt.Sprintf("%s s %s %s", id, ev.Table.Name, body.After)
}

func shapeEvents(t *testing.T, batch []*service.Message) (out []string) {
	t.Helper()
	for _, m := range batch {
		out = append(out, shapeEvent(t, m))
	}
	return out
}

// plainShapes are the events without their ids and schema versions.
func plainShapes(events []string) (out []string) {
	for _, e := range events {
		_, e, _ = strings.Cut(e, " ")
		out = append(out, regexp.MustCompile(`,"schema_version":"[^"]*"|"schema":"public",`).ReplaceAllString(e, ""))
	}
	return out
}

// logged are the events without what only the catalogue says, which it does as of when it is asked.
func logged(events []string) (out []string) {
	for _, e := range events {
		out = append(out, regexp.MustCompile(`,"schema_version":"[^"]*"|,"nullable":[a-z]*`).ReplaceAllString(e, ""))
	}
	return out
}

// TestSchemaChanges: a change of a table's shape is an event before the first row that has it.
func TestSchemaChanges(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE item (id int PRIMARY KEY)")
	r, _ := d.source("schema_changes: true")
	s := d.run(r, checkpoint.Token{})
	db := `{"db":"` + d.name + `","table":"`
	shape := func(name, columns, key string) string {
		return db + name + `","columns":[` + columns + `],"key":[` + key + `]}`
	}
	const (
		id     = `{"name":"id","type":"integer","nullable":false}`
		number = `,{"name":"n","type":"integer","nullable":true}`
		text   = `,{"name":"n","type":"text","nullable":true}`
		must   = `,{"name":"n","type":"text","nullable":false}`
	)
	for _, step := range []struct {
		sql  []string
		want []string
	}{
		{[]string{"INSERT INTO item VALUES (1)"}, []string{`c item {"before":null,"after":{"id":1}}`}},
		{[]string{"CREATE INDEX ON item (id)", "ANALYZE item", "ALTER TABLE item SET (fillfactor = 50)", "INSERT INTO item VALUES (2)"}, []string{`c item {"before":null,"after":{"id":2}}`}},
		{[]string{"ALTER TABLE item ADD n int", "INSERT INTO item VALUES (3)"}, []string{
			`s item {"ddl":null,"old":` + shape("item", id, `"id"`) + `,"new":` + shape("item", id+number, `"id"`) + `}`, `c item {"before":null,"after":{"id":3,"n":null}}`,
		}},
		{[]string{"BEGIN", "INSERT INTO item VALUES (4)", "ALTER TABLE item ALTER n TYPE text", "INSERT INTO item VALUES (5)", "COMMIT"}, []string{
			`c item {"before":null,"after":{"id":4,"n":null}}`,
			`s item {"ddl":null,"old":` + shape("item", id+number, `"id"`) + `,"new":` + shape("item", id+text, `"id"`) + `}`,
			`c item {"before":null,"after":{"id":5,"n":null}}`,
		}},
		{[]string{"UPDATE item SET n = 'x'"}, []string{
			`u item {"before":null,"after":{"id":1,"n":"x"}}`, `u item {"before":null,"after":{"id":2,"n":"x"}}`, `u item {"before":null,"after":{"id":3,"n":"x"}}`,
			`u item {"before":null,"after":{"id":4,"n":"x"}}`, `u item {"before":null,"after":{"id":5,"n":"x"}}`,
		}},
		{[]string{"ALTER TABLE item DROP CONSTRAINT item_pkey, ADD PRIMARY KEY (id, n)", "DELETE FROM item WHERE id = 1"}, []string{
			`s item {"ddl":null,"old":` + shape("item", id+text, `"id"`) + `,"new":` + shape("item", id+must, `"id","n"`) + `}`,
			`d item {"before":{"id":1,"n":"x"},"after":null}`,
		}},
		{[]string{"ALTER TABLE item REPLICA IDENTITY FULL", "DELETE FROM item WHERE id = 2"}, []string{`d item {"before":{"id":2,"n":"x"},"after":null}`}},
		{[]string{"ALTER TABLE item REPLICA IDENTITY DEFAULT, DROP n, ADD PRIMARY KEY (id)", "INSERT INTO item VALUES (6)"}, []string{
			`s item {"ddl":null,"old":` + shape("item", id+must, `"id","n"`) + `,"new":` + shape("item", id, `"id"`) + `}`, `c item {"before":null,"after":{"id":6}}`,
		}},
		{[]string{"ALTER TABLE item RENAME TO thing", "INSERT INTO thing VALUES (7)"}, []string{
			`s item {"ddl":null,"old":` + shape("item", id, `"id"`) + `,"new":null}`, `s thing {"ddl":null,"old":null,"new":` + shape("thing", id, `"id"`) + `}`,
			`c thing {"before":null,"after":{"id":7}}`,
		}},
	} {
		d.exec(step.sql...)
		require.Equal(t, step.want, plainShapes(shapeEvents(t, s.events(len(step.want)))), step.sql)
	}
}

// TestSchemaChangesReplayed: whatever position a source starts again from, and however far its history was saved, it delivers the events
// after that position as they were the first time, ids included.
func TestSchemaChangesReplayed(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE item (id int PRIMARY KEY)", "CREATE TABLE other (id int PRIMARY KEY)")
	r, _ := d.source("schema_changes: true")
	s := d.run(r, checkpoint.Token{})
	start := s.last
	type stop struct {
		from checkpoint.Token
		left int // events that are delivered before
	}
	stops := []stop{{start, 0}}
	var want []string
	step := func(n int, sql ...string) {
		t.Helper()
		d.exec(sql...)
		commit := s.last
		batch := s.events(n)
		for i, m := range batch[:n-1] { // a stop after each event of a transaction
			if ev, _ := change.FromMessage(m); sql[0] == "BEGIN" && ev.Index > 0 {
				from := commit
				from.Sent = ev.Index
				left := len(want) + i + 1 - ev.Sub // a position knows rows; the changes after the last one come again
				stops = append(stops, stop{from, left})
			}
		}
		want = append(want, shapeEvents(t, batch)...)
		stops = append(stops, stop{s.last, len(want)})
	}
	var records [][]byte
	save := func() {
		record, _, err := r.Record()
		require.NoError(t, err)
		records = append(records, record)
	}
	save()
	step(2, "INSERT INTO item VALUES (1)", "INSERT INTO other VALUES (1)")
	step(2, "ALTER TABLE item ADD a int", "INSERT INTO item VALUES (2, 2)")
	step(5, "BEGIN", "INSERT INTO item VALUES (3)", "ALTER TABLE item ADD b text", "ALTER TABLE other ADD b text", "INSERT INTO item VALUES (4)", "INSERT INTO other VALUES (2)", "COMMIT")
	step(1, "INSERT INTO other VALUES (3)")
	step(3, "DROP TABLE other", "ALTER TABLE item RENAME TO other", "INSERT INTO other VALUES (5)")
	step(2, "ALTER TABLE other DROP a", "UPDATE other SET b = 'x' WHERE id = 5")
	step(2, "ALTER TABLE other ADD c int", "TRUNCATE other")
	save()
	s.close()
	numbers := map[string]bool{}
	for _, e := range want {
		id, _, _ := strings.Cut(e, " ")
		require.False(t, numbers[id], "two events have the id %s", id)
		numbers[id] = true
	}
	require.NotNil(t, records[1])
	for _, stop := range stops[:len(stops)-1] {
		r, _ := d.source("schema_changes: true")
		require.NoError(t, r.Restore(records[1]))
		s := d.run(r, stop.from)
		got := shapeEvents(t, s.events(len(want)-stop.left))
		require.Equal(t, logged(want[stop.left:]), logged(got), "from %s", stop.from)
		again, _, err := r.Record()
		require.NoError(t, err)
		if again != nil {
			require.LessOrEqual(t, len(again), len(records[1]))
		}
		s.close()
	}
}

// TestSchemaChangesAcrossRestart: a change that was made while the source was down is an event, since the shapes are saved with the
// checkpoint.
func TestSchemaChangesAcrossRestart(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE item (id int PRIMARY KEY)")
	path := filepath.Join(testenv.TempDir(t), "checkpoints.db")
	got := make(chan string, 10)
	run := func() func() {
		b := service.NewStreamBuilder()
		require.NoError(t, b.SetLoggerYAML("level: error"))
		require.NoError(t, b.AddInputYAML(fmt.Sprintf("deltaforge_postgres: {name: %s, dsn: %q, checkpoint: {path: %q}, schema_changes: true, snapshot: {mode: never}}", d.name, d.dsn, path)))
		require.NoError(t, b.AddConsumerFunc(func(_ context.Context, m *service.Message) error {
			text, err := m.AsBytes()
			got <- string(text)
			return err
		}))
		stream, err := b.Build()
		require.NoError(t, err)
		ended := make(chan error, 1)
		go func() { ended <- stream.Run(context.Background()) }()
		require.Eventually(t, func() bool {
			return d.queryText("SELECT count(*)::text FROM pg_replication_slots WHERE slot_name = $1 AND active", "deltaforge_"+d.name) == "1"
		}, waitFor, tick)
		return func() {
			require.NoError(t, stream.StopWithin(waitFor))
			<-ended
		}
	}
	next := func() string {
		select {
		case text := <-got:
			return text
		case <-time.After(waitFor):
			require.Fail(t, "no event")
			return ""
		}
	}
	stop := run()
	d.exec("INSERT INTO item VALUES (1)")
	require.Contains(t, next(), `"after":{"id":1}`)
	stop()
	d.exec("ALTER TABLE item ADD n int", "INSERT INTO item VALUES (2)")
	stop = run()
	event := next()
	require.Contains(t, event, `"op":"s"`)
	require.Contains(t, event, `"columns":[{"name":"id","type":"integer","nullable":false},{"name":"n","type":"integer","nullable":true}],"key":["id"]`)
	require.Contains(t, next(), `"after":{"id":2,"n":null}`)
	stop()
	require.Empty(t, got)
}

// TestKeyOfReplay reads a row of REPLICA IDENTITY FULL again after its key column was renamed: the event is the same.
func TestKeyOfReplay(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE f (x int PRIMARY KEY, y int)", "ALTER TABLE f REPLICA IDENTITY FULL")
	r, _ := d.source("")
	s := d.run(r, checkpoint.Token{})
	from := s.last
	d.exec("INSERT INTO f VALUES (1, 2)")
	live := s.events(1)[0]
	d.exec("ALTER TABLE f RENAME COLUMN x TO z")
	s.close()
	r, _ = d.source("")
	again := d.run(r, from).events(1)[0]
	require.Equal(t, short(t, live), short(t, again))
	require.Equal(t, `{"x":1}`, must(live.MetaGet(change.MetaKey)))
	require.Equal(t, `{"x":1}`, must(again.MetaGet(change.MetaKey)))
}
