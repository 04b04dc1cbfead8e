package mysqlcdc

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/charset"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/ddl"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/recorded"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/resolve"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/shape"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/coordinator"
)

var playedAt = time.UnixMilli(1700000000000) //nolint:gochecknoglobals // a constant

// offline returns a session that has no server: it is given its events, and knows no table but those that they tell of.
func offline(flavor string) *session {
	start := &gtid.Position{HasGTIDs: true, File: "bin.000001", Pos: 4}
	info := charset.Info{
		Collations: map[uint64]string{45: "utf8mb4", 46: "utf8mb4", 255: "utf8mb4", 33: "utf8mb3", 54: "utf16", binlog.BinaryCollation: "binary"},
		ByID: map[uint64]string{
			45: "utf8mb4_general_ci", 46: "utf8mb4_bin", 255: "utf8mb4_0900_ai_ci", 33: "utf8mb3_general_ci", 54: "utf16_general_ci",
			binlog.BinaryCollation: "binary",
		},
		Names: map[string]string{
			"utf8mb4_general_ci": "utf8mb4", "utf8mb4_bin": "utf8mb4", "utf8mb4_0900_ai_ci": "utf8mb4", "utf8mb3_general_ci": "utf8mb3",
			"utf16_general_ci": "utf16", "binary": "binary",
		},
		Defaults: map[string]string{
			"utf8mb4": "utf8mb4_general_ci", "utf8mb3": "utf8mb3_general_ci", "utf16": "utf16_general_ci", "binary": "binary",
		},
		Widths: map[string]int{"utf8mb4": 4, "utf8mb3": 3, "utf16": 4, "binary": 1},
	}
	l := newLog(config{source: &change.Source{Connector: "mysql", Name: "s", Version: "v"}}, service.MockResources())
	s := &session{log: l, flavor: flavor, identity: "server", position: start, reader: newReader(start)}
	s.filesAt = playedAt
	s.excerpts = func(context.Context, *gtid.Position) (events, error) { return nil, errNoPrepared }
	s.schemas = &resolve.Schemas{
		Source: l.cfg.source, Flavor: flavor, Charsets: info, Warn: func(string, ...any) {}, Changed: func(string) {},
		Definition: func(db, table string) *shape.Table {
			return s.tables.State.Table(db, table)
		},
		Define: s.define,
	}
	version := "9.7.0"
	if flavor == product.MariaDB {
		version = "10.11.6-MariaDB"
	}
	s.tables.State = shape.State{"fuzz": {Collation: "utf8mb4_general_ci", Complete: true, Tables: map[string]*shape.Table{}}}
	s.dialect = statement.NewDialect(flavor, version)
	s.tables.Applier = ddl.NewApplier(s.dialect, info, false, s.isBefore)
	l.history.Begin("server", start, s.tables.State)
	return s
}

// replay is the recorded events as a second connection sends them: how the file is written, then what is after a position.
type replay [][]byte

func excerptOf(all [][]byte, from *gtid.Position) (events, error) {
	var r replay
	for i, e := range all {
		if recorded.Kind(e) == replication.FORMAT_DESCRIPTION_EVENT {
			r = replay{e}
		}
		if recorded.Kind(e) != replication.ROTATE_EVENT && uint64(binary.LittleEndian.Uint32(e[13:])) == from.Pos+uint64(len(e)) {
			r = append(r, all[i:]...)
			return &r, nil
		}
	}
	return nil, errNoPrepared
}

func (r *replay) next() ([]byte, time.Time, error) {
	if len(*r) == 0 {
		return nil, playedAt, errNoPrepared
	}
	e := (*r)[0]
	*r = (*r)[1:]
	return e, playedAt, nil
}

func (r *replay) Close() {}

// play gives a session events and returns what it sends.
func play(t testing.TB, s *session, do func(ctx context.Context) error) (segments []coordinator.Segment, err error) {
	out := make(chan coordinator.Segment)
	s.out = out
	go func() {
		defer close(out)
		err = do(t.Context())
	}()
	for seg := range out {
		segments = append(segments, seg)
	}
	return segments, err
}

func playEvents(t testing.TB, s *session, events [][]byte) ([]coordinator.Segment, error) {
	return play(t, s, func(ctx context.Context) error {
		for _, e := range events {
			if err := s.event(ctx, e, playedAt); err != nil {
				return fmt.Errorf("%s: %w", recorded.Kind(e), err)
			}
		}
		return nil
	})
}

// recordedRow writes a row of the recorded table: all NULL but for the values, which are in the order of the columns.
func recordedRow(columns string, values ...string) string {
	var b strings.Builder
	for name := range strings.FieldsSeq(columns) {
		value := "null"
		if len(values) > 0 && values[0] == name {
			value, values = values[1], values[2:]
		}
		fmt.Fprintf(&b, `,%q:%s`, name, value)
	}
	return "{" + b.String()[1:] + "}"
}

// TestRecorded reads two logs without a server: of every type, of several GTIDs, with a compressed transaction, a JSON difference, a
// compressed statement and rows, a minimal image, an XA transaction, DDL in between.
func TestRecorded(t *testing.T) {
	const old = "id u d f v c b e s bt dt tm ts y x g j"
	const now = "id n u d f v c b e s bt dt tm ts y x g j"
	first := func(columns, u, v, j string) string {
		return recordedRow(columns, "id", "1", "n", "7", "u", u, "d", `"-12.500"`, "f", "0.1", "v", v, "c", `"a😀"`, "b", `{"_base64":"AP8="}`,
			"e", `"b,'c"`, "s", `"x,y"`, "bt", `"10000000001"`, "dt", `"2024-02-29T13:51:30.123456"`, "tm", `"-01:02:03.004"`,
			"ts", `"2024-02-29T13:51:30Z"`, "y", "2024", "x", `"text"`, "g", `{"wkb":"AQEAAAAAAAAAAADwPwAAAAAAAABA","srid":0}`, "j", j)
	}
	firstOld := func(u, v, j string) string { return strings.Replace(first(now, u, v, j), `"n":7,`, "", 1) }
	row := func(columns, id string, values ...string) string {
		return recordedRow(columns, append([]string{"id", id}, values...)...)
	}
	compressed := `"` + strings.Repeat("compress ", 30) + `"`
	for _, flavor := range []string{product.MySQL, product.MariaDB} {
		doc := `{"a":[1,2.5,null,true],"é":"z"}`
		if flavor == product.MariaDB {
			doc = `"{\"a\": [1, 2.5, null, true], \"é\": \"z\"}"`
		}
		want := []string{
			`c {"id":1} - ` + firstOld("18446744073709551615", `"ü😀"`, doc),
			`c {"id":2} - ` + row(old, "2", "v", `"two"`), `c {"id":3} - ` + row(old, "3"),
			`u {"id":1} ` + firstOld("18446744073709551615", `"ü😀"`, doc) + " " + firstOld("5", `"ü😀!"`, doc),
			`u {"id":2} ` + row(old, "2", "v", `"two"`) + " " + row(old, "2", "u", "5", "v", `"two!"`),
			`u {"id":3} ` + row(old, "3") + " " + row(old, "3", "u", "5"), `d {"id":3} ` + row(old, "3", "u", "5") + " -",
		}
		if flavor == product.MySQL {
			want = append(want,
				`c {"id":10} - `+row(old, "10", "x", `"tagged"`), `c {"id":11} - `+row(now, "11", "n", "7", "x", compressed),
				`u {"id":1} `+first(now, "5", `"ü😀!"`, doc)+" "+first(now, "5", `"ü😀!"`, `{"a":[9,2.5,null,true],"é":"longer"}`))
		} else {
			want = append(want, `c {"id":10} - `+row(old, "10", "x", compressed))
		}
		want = append(want, `u {"id":10} {"id":10} {"x":"minimal"}`, `c {"id":20} - `+row(now, "20", "n", "7"), "t  - -")
		s := offline(flavor)
		log := recorded.Split(recorded.Log(t, flavor))
		s.excerpts = func(_ context.Context, from *gtid.Position) (events, error) { return excerptOf(log, from) }
		segments, err := playEvents(t, s, log)
		require.NoError(t, err, flavor)
		var got []received
		for _, seg := range segments {
			if seg.Rows != nil {
				batch, err := seg.Rows.Decode(t.Context(), nil)
				require.NoError(t, err)
				for _, m := range batch {
					got = append(got, receive(t, m))
				}
			}
		}
		require.Equal(t, want, rows(t, got), flavor)
		require.Empty(t, s.tables.State["fuzz"].Tables, "the table is dropped")
	}
}
