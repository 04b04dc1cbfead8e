package mysqlcdc

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
	driver "github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// peerType is a type of the comparison with go-mysql's decoder: values at random, and the JSON that ours has to be for what go-mysql
// returns. Where that is more than writing its value down, differs says why ours is another.
type peerType struct {
	column  string
	value   func(r *rand.Rand) string // SQL
	want    func(v any) string
	differs string
	only    string
}

func plain(v any) string { return fmt.Sprint(v) }

func quotedText(v any) string {
	if b, ok := v.([]byte); ok {
		v = string(b)
	}
	return string(envelope.AppendString(nil, v.(string)))
}

func base64Of(v any) string {
	if s, ok := v.(string); ok {
		v = []byte(s)
	}
	return `{"_base64":"` + base64.StdEncoding.EncodeToString(v.([]byte)) + `"}`
}

// peerTypes is the list of types, and with it of all differences.
func peerTypes() []peerType {
	signed := func(bits int) func(*rand.Rand) string {
		return func(r *rand.Rand) string { return strconv.FormatInt(int64(r.Uint64())>>(64-bits), 10) }
	}
	unsigned := func(bits int) func(*rand.Rand) string {
		return func(r *rand.Rand) string { return strconv.FormatUint(r.Uint64()>>(64-bits), 10) }
	}
	number := func(most int) func(*rand.Rand) string {
		return func(r *rand.Rand) string { return strconv.Itoa(r.IntN(most)) }
	}
	letters := []rune("ab \"\\'\n\tü€😀日")
	word := func(r *rand.Rand) string {
		var s strings.Builder
		for range r.IntN(12) {
			s.WriteRune(letters[r.IntN(len(letters))])
		}
		return "x'" + fmt.Sprintf("%x", s.String()) + "'"
	}
	octets := func(r *rand.Rand) string { return fmt.Sprintf("x'%016x'", r.Uint64()) }
	date := func(r *rand.Rand) string {
		return fmt.Sprintf("%04d-%02d-%02d", r.IntN(10000), 1+r.IntN(12), 1+r.IntN(28))
	}
	clock := func(r *rand.Rand) string {
		return fmt.Sprintf("%02d:%02d:%02d.%06d", r.IntN(24), r.IntN(60), r.IntN(60), r.IntN(1000000))
	}
	iso := func(suffix string) func(any) string {
		return func(v any) string { return `"` + strings.Replace(v.(string), " ", "T", 1) + suffix + `"` }
	}
	fraction := func(digits int) func(any) string {
		return func(v any) string {
			if !strings.Contains(v.(string), ".") {
				v = v.(string) + "." + strings.Repeat("0", digits)
			}
			return quotedText(v)
		}
	}
	// noDate keeps a date that the calendar does not have as it is.
	noDate := func(want func(any) string) func(any) string {
		return func(v any) string {
			if s := v.(string); s[5:7] == "00" || s[8:10] == "00" {
				return quotedText(s)
			}
			return want(v)
		}
	}
	zeroDate := func(clock func(r *rand.Rand) string) func(r *rand.Rand) string {
		return func(r *rand.Rand) string {
			d := [...]string{"0000-00-00", "2024-00-00", "2024-02-00", "0000-02-03", "0000-00-07", "2024-02-29"}[r.IntN(6)]
			if d == "0000-00-00" && r.IntN(2) == 0 {
				return "'" + d + "'"
			}
			return "'" + d + clock(r) + "'"
		}
	}
	const zeroFraction = "go-mysql leaves out a fraction of zero, which the server shows"
	const zone = "go-mysql has a space where ISO 8601 has a T, and no zone"
	const noISO = zone + "; what is no date of the calendar both show as the server does"
	types := []peerType{
		{column: "TINYINT", value: signed(8), want: plain},
		{column: "SMALLINT", value: signed(16), want: plain},
		{column: "MEDIUMINT", value: signed(24), want: plain},
		{column: "INT", value: signed(32), want: plain},
		{column: "BIGINT", value: signed(64), want: plain},
		{column: "TINYINT UNSIGNED", value: unsigned(8), want: plain},
		{column: "SMALLINT UNSIGNED", value: unsigned(16), want: plain},
		{column: "MEDIUMINT UNSIGNED", value: unsigned(24), want: plain},
		{column: "INT UNSIGNED", value: unsigned(32), want: plain},
		{column: "BIGINT UNSIGNED", value: unsigned(64), want: plain},
		{column: "DECIMAL(20,5)", value: func(r *rand.Rand) string { return fmt.Sprintf("%d.%05d", r.Int64N(2e14)-1e14, r.IntN(1e5)) }, want: quotedText},
		{column: "DECIMAL(65,30)", value: func(r *rand.Rand) string {
			return fmt.Sprintf("-%d%015d.%015d%015d", r.Int64N(1e18), r.Int64N(1e15), r.Int64N(1e15), r.Int64N(1e15))
		}, want: quotedText},
		{column: "FLOAT", value: func(r *rand.Rand) string { return fmt.Sprint(float32(r.NormFloat64() * 1000)) }, want: func(v any) string {
			return strconv.FormatFloat(float64(v.(float32)), 'f', -1, 32)
		}},
		{column: "DOUBLE", value: func(r *rand.Rand) string { return fmt.Sprint(r.NormFloat64() * 1000) }, want: func(v any) string {
			return strconv.FormatFloat(v.(float64), 'f', -1, 64)
		}},
		{column: "YEAR", value: func(r *rand.Rand) string { return strconv.Itoa(1901 + r.IntN(255)) }, want: plain},
		{column: "DATE", value: func(r *rand.Rand) string { return "'" + date(r) + "'" }, want: quotedText},
		{column: "TIME(0)", value: func(r *rand.Rand) string { return fmt.Sprintf("'-%d:%02d:%02d'", r.IntN(838), r.IntN(60), r.IntN(60)) }, want: quotedText},
		{column: "TIME(6)", value: func(r *rand.Rand) string { return "'" + clock(r) + "'" }, want: fraction(6), differs: zeroFraction},
		{column: "TIME(3)", value: func(r *rand.Rand) string { return "'-" + clock(r)[:12] + "'" }, want: fraction(3), differs: zeroFraction},
		{column: "DATETIME(0)", value: func(r *rand.Rand) string { return "'" + date(r) + " " + clock(r)[:8] + "'" }, want: iso(""), differs: zone},
		{column: "DATETIME(6)", value: func(r *rand.Rand) string { return "'" + date(r) + " " + clock(r) + "'" }, want: iso(""), differs: zone},
		{column: "TIMESTAMP(0) NULL", value: func(r *rand.Rand) string { return fmt.Sprintf("FROM_UNIXTIME(%d)", 1+r.IntN(1<<31-2)) }, want: iso("Z"), differs: zone},
		{column: "TIMESTAMP(4) NULL", value: func(r *rand.Rand) string {
			return fmt.Sprintf("FROM_UNIXTIME(%d.%04d)", 1+r.IntN(1<<31-2), r.IntN(10000))
		}, want: iso("Z"), differs: zone},
		{column: "DATE", value: zeroDate(func(*rand.Rand) string { return "" }), want: quotedText},
		{column: "DATETIME(0)", value: zeroDate(func(r *rand.Rand) string { return " " + clock(r)[:8] }), want: noDate(iso("")), differs: noISO},
		{column: "DATETIME(3)", value: zeroDate(func(r *rand.Rand) string { return " " + clock(r)[:12] }), want: noDate(iso("")), differs: noISO},
		{column: "TIMESTAMP(0) NULL", value: func(r *rand.Rand) string {
			return [...]string{"'0000-00-00 00:00:00'", "'2024-02-29 12:13:14'"}[r.IntN(2)]
		}, want: noDate(iso("Z")), differs: noISO},
		{column: "TIMESTAMP(5) NULL", value: func(r *rand.Rand) string {
			return [...]string{"'0000-00-00 00:00:00.00000'", "'2024-02-29 12:13:14.00015'"}[r.IntN(2)]
		}, want: noDate(iso("Z")), differs: noISO},
		{column: "YEAR", value: func(*rand.Rand) string { return "0" }, want: plain},
		{column: "BIT(1)", value: number(2), want: func(v any) string { return strconv.FormatBool(v.(int64) == 1) }, differs: "go-mysql returns a number"},
		{column: "BIT(11)", value: number(2048), want: func(v any) string { return fmt.Sprintf(`"%011b"`, v) }, differs: "go-mysql returns a number"},
		{column: "BIT(64)", value: unsigned(64), want: func(v any) string { return fmt.Sprintf(`"%064b"`, uint64(v.(int64))) }, differs: "go-mysql returns a signed number"},
		{column: "CHAR(20)", value: word, want: quotedText},
		{column: "VARCHAR(20)", value: word, want: quotedText},
		{column: "VARCHAR(300)", value: word, want: quotedText},
		{column: "VARCHAR(20) CHARACTER SET latin1", value: func(r *rand.Rand) string { return fmt.Sprintf("CONCAT('é', %d)", r.IntN(9)) }, want: func(v any) string {
			return `"é` + strings.TrimPrefix(v.(string), "\xe9") + `"`
		}, differs: "go-mysql returns the bytes of the column's character set"},
		{column: "TEXT", value: word, want: quotedText},
		{column: "BLOB", value: octets, want: base64Of, differs: "bytes are base64 in JSON"},
		{column: "VARBINARY(20)", value: octets, want: base64Of, differs: "bytes are base64 in JSON"},
		{column: "BINARY(10)", value: octets, want: func(v any) string { return base64Of(v.(string) + strings.Repeat("\x00", 10-len(v.(string)))) }, differs: "the log leaves out zero bytes at the end, which the server shows"},
		{column: "ENUM('a','b,c','ü')", value: func(r *rand.Rand) string { return strconv.Itoa(1 + r.IntN(3)) }, want: func(v any) string {
			return [...]string{`""`, `"a"`, `"b,c"`, `"ü"`}[v.(int64)]
		}, differs: "go-mysql returns the number of the label"},
		{column: "SET('a','b','ü')", value: number(8), want: func(v any) string {
			var labels []string
			for i, l := range []string{"a", "b", "ü"} {
				if v.(int64)>>i&1 == 1 {
					labels = append(labels, l)
				}
			}
			return `"` + strings.Join(labels, ",") + `"`
		}, differs: "go-mysql returns the bits of the labels"},
		{column: "JSON", only: "mysql", value: func(r *rand.Rand) string {
			return fmt.Sprintf("JSON_OBJECT('a', %d, 'list', JSON_ARRAY(%d, 'x', NULL, TRUE, %d.5), 'n', JSON_OBJECT('k', REPEAT('y', %d)))", int64(r.Uint64()), r.IntN(1e5), r.IntN(1e5), r.IntN(300))
		}, want: func(v any) string {
			var out bytes.Buffer
			_ = json.Compact(&out, []byte(v.(string))) // what is not JSON is not equal either
			return out.String()
		}, differs: "go-mysql writes the spaces that the server does"},
		{column: "VECTOR(7)", only: "mysql", value: func(r *rand.Rand) string {
			list := make([]string, 1+r.IntN(7))
			for i := range list {
				list[i] = fmt.Sprint(float32(r.NormFloat64() * 1000))
			}
			return "STRING_TO_VECTOR('[" + strings.Join(list, ",") + "]')"
		}, want: vectorOf, differs: "go-mysql returns the server's own form: the numbers' bytes"},
	}
	for _, g := range []string{"POINT", "LINESTRING", "POLYGON", "MULTIPOINT", "MULTILINESTRING", "MULTIPOLYGON", "GEOMETRYCOLLECTION", "GEOMETRY"} {
		types = append(types, peerType{column: g, value: func(r *rand.Rand) string {
			return fmt.Sprintf("ST_GeomFromText('%s', %d)", geometryText(r, g), [...]int{0, 3857, 4326}[r.IntN(3)])
		}, want: func(v any) string {
			b := v.([]byte)
			return fmt.Sprintf(`{"wkb":"%s","srid":%d}`, base64.StdEncoding.EncodeToString(b[4:]), binlog.UintLE(b[:4]))
		}, differs: "go-mysql returns the server's own form: the reference system, then the WKB"})
	}
	return types
}

// vectorOf is the JSON of the bytes of a vector.
func vectorOf(v any) string {
	b := v.([]byte)
	list := make([]string, len(b)/4)
	for i := range list {
		f := math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		list[i] = strconv.FormatFloat(float64(f), 'f', -1, 32)
	}
	return "[" + strings.Join(list, ",") + "]"
}

// geometryText is a geometry of a kind, at random, as text.
func geometryText(r *rand.Rand, kind string) string {
	point := func() string { return fmt.Sprintf("%d.%d %d", r.IntN(90), r.IntN(100), r.IntN(90)) }
	list := func(least, most int, item func() string) string {
		items := make([]string, least+r.IntN(most-least+1))
		for i := range items {
			items[i] = item()
		}
		return "(" + strings.Join(items, ",") + ")"
	}
	line := func() string { return list(2, 5, point) }
	ring := func() string {
		x, y, d := r.IntN(40), r.IntN(40), 1+r.IntN(40)
		return fmt.Sprintf("(%d %d,%d %d,%d %d,%d %d)", x, y, x+d, y, x+d, y+d, x, y)
	}
	polygon := func() string { return list(1, 2, ring) }
	body := map[string]func() string{
		"POINT": func() string { return "(" + point() + ")" }, "LINESTRING": line, "POLYGON": polygon,
		"MULTIPOINT":      func() string { return list(1, 4, func() string { return "(" + point() + ")" }) },
		"MULTILINESTRING": func() string { return list(1, 3, line) },
		"MULTIPOLYGON":    func() string { return list(1, 3, polygon) },
	}
	kinds := []string{"POINT", "LINESTRING", "POLYGON", "MULTIPOINT", "MULTILINESTRING", "MULTIPOLYGON"}
	single := func() string {
		k := kinds[r.IntN(len(kinds))]
		return k + body[k]()
	}
	switch kind {
	case "GEOMETRY":
		return single()
	case "GEOMETRYCOLLECTION":
		if r.IntN(5) == 0 {
			return "GEOMETRYCOLLECTION EMPTY"
		}
		return "GEOMETRYCOLLECTION" + list(1, 3, single)
	default:
		return kind + body[kind]()
	}
}

const (
	peerTables = 12
	peerRows   = 40
)

// TestTypesPeer compares our decoding with go-mysql's, on random tables and rows.
func TestTypesPeer(t *testing.T) {
	seed := testenv.Seed(t)
	onBoth(t, func(t *testing.T, b *bench) {
		random := rand.New(rand.NewPCG(seed, 1))
		// With MINIMAL the log has the signs of numbers, which go-mysql needs. MariaDB's default leaves them out.
		b.exec(t, "SET GLOBAL binlog_row_metadata = MINIMAL", "SET NAMES utf8mb4", "SET time_zone = '+00:00'", "SET sql_mode = ''")
		tables := map[string][]peerType{}
		var types []peerType
		for _, p := range peerTypes() {
			if p.only == "" || !b.srv.IsMariaDB() {
				types = append(types, p)
			}
		}
		for i := range peerTables {
			name := fmt.Sprintf("p%d", i)
			var columns []string
			for _, j := range random.Perm(len(types))[:1+random.IntN(len(types)-1)] {
				tables[name] = append(tables[name], types[j])
				columns = append(columns, fmt.Sprintf("c%d %s", len(columns), types[j].column))
			}
			b.exec(t, "CREATE TABLE "+name+" ("+strings.Join(columns, ", ")+") CHARACTER SET utf8mb4")
		}
		peer := b.peer(t)
		r := start(t, b.newLog(t, ""), checkpoint.Token{}).connected(t)
		for i := range peerTables {
			name := fmt.Sprintf("p%d", i)
			var rows []string
			for range peerRows {
				var values []string
				for _, p := range tables[name] {
					if random.IntN(10) == 0 {
						values = append(values, "NULL")
					} else {
						values = append(values, p.value(random))
					}
				}
				rows = append(rows, "("+strings.Join(values, ",")+")")
			}
			b.exec(t, "INSERT INTO "+name+" VALUES "+strings.Join(rows, ", "))
		}
		got := r.take(t, peerTables*peerRows)
		for len(got) > 0 {
			table, rows := peer(t)
			for _, row := range rows {
				require.NoError(t, got[0].err)
				comparePeer(t, tables[table], got[0].raw, row)
				got = got[1:]
			}
		}
	})
}

func comparePeer(t *testing.T, types []peerType, raw string, row []any) {
	t.Helper()
	require.Len(t, row, len(types))
	want := "{"
	for i, v := range row {
		text := "null"
		if v != nil {
			text = types[i].want(v)
		}
		want += fmt.Sprintf(`"c%d":%s,`, i, text)
	}
	want = strings.TrimSuffix(want, ",") + "}"
	ours := part(raw, "after")
	if want == ours {
		return
	}
	var a, b map[string]json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(want), &a), want)
	require.NoError(t, json.Unmarshal([]byte(ours), &b), ours)
	for i, p := range types {
		name := fmt.Sprintf("c%d", i)
		require.Equal(t, string(a[name]), string(b[name]), "%s, known differences: %q", p.column, p.differs)
	}
}

// peer reads the rows of the bench's database with go-mysql, from the end of the log on: the table and rows of an event a call.
func (b *bench) peer(t *testing.T) func(t *testing.T) (string, [][]any) {
	t.Helper()
	dsn, err := driver.ParseDSN(b.srv.DSN(""))
	require.NoError(t, err)
	host, port, _ := strings.Cut(dsn.Addr, ":")
	n, err := strconv.ParseUint(port, 10, 16)
	require.NoError(t, err)
	conf := replication.BinlogSyncerConfig{
		ServerID: 77001, Host: host, Port: uint16(n), User: dsn.User, Password: dsn.Passwd, TimestampStringLocation: time.UTC, DisableRetrySync: true, RenderJSONAsMySQLText: true,
		Logger: slog.New(slog.DiscardHandler),
	}
	statement := "SHOW BINARY LOG STATUS"
	if b.srv.IsMariaDB() {
		conf.Flavor, statement = mysql.MariaDBFlavor, "SHOW MASTER STATUS"
	}
	rows, err := b.sql.QueryContext(t.Context(), statement)
	require.NoError(t, err)
	columns, err := rows.Columns()
	require.NoError(t, err)
	at := mysql.Position{}
	require.True(t, rows.Next())
	into := []any{&at.Name, &at.Pos}
	for range len(columns) - len(into) {
		into = append(into, new(any))
	}
	require.NoError(t, rows.Scan(into...))
	require.NoError(t, rows.Close())
	syncer := replication.NewBinlogSyncer(conf)
	t.Cleanup(syncer.Close)
	stream, err := syncer.StartSync(at)
	require.NoError(t, err)
	return func(t *testing.T) (string, [][]any) {
		for {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			ev, err := stream.GetEvent(ctx)
			cancel()
			require.NoError(t, err)
			if e, ok := ev.Event.(*replication.RowsEvent); ok && string(e.Table.Schema) == b.db {
				return string(e.Table.Table), e.Rows
			}
		}
	}
}
