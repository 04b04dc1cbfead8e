package postgrescdc

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/envelope"
)

func TestLSN(t *testing.T) {
	for text, want := range map[string]LSN{
		"0/0": 0, "0/16B3748": 0x16B3748, "16/B374D848": 0x16B374D848, "FFFFFFFF/FFFFFFFF": 1<<64 - 1,
	} {
		got, err := ParseLSN(text)
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, text, got.String())
	}
	for _, text := range []string{"", "0", "0/", "/0", "0/16b3748", "0/016B3748", "0/16B3748 ", "0/1/2", "+0/1", "0/100000000", "x/1", "00/1"} {
		_, err := ParseLSN(text)
		require.Error(t, err, text)
	}
	padded, err := parseServerLSN("0/016B3748")
	require.NoError(t, err)
	require.Equal(t, LSN(0x16B3748), padded)
}

func TestPosition(t *testing.T) {
	for text, want := range map[string]Position{
		"0/2A": {At: 42}, "0/2A;7": {At: 42, Last: 42, XID: 7}, "0/2A;0": {At: 42, Last: 42}, "1/2A;4294967295@0/1": {At: 1<<32 | 42, Last: 1, XID: 1<<32 - 1},
	} {
		got, err := tokenPosition(checkpoint.Token{Commit: checkpoint.Text(text)})
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, text, got.String())
	}
	for _, text := range []string{
		"", "0/2A;", "0/2A;x", "0/2A;07", "0/2A;-1", "0/2A;4294967296", "0/2A;7@", "0/2A;7@0/2A", "0/2A;7@0/2B", "0/2A;7@0/0", "0/0;7", "0/2a;7", "0/2A;7@0/29@0/28",
		"0/2A@0/29",
	} {
		_, err := ParsePosition(text)
		require.Error(t, err, text)
	}
	none, err := tokenPosition(checkpoint.Token{})
	require.NoError(t, err)
	require.Zero(t, none)
}

// TestResumeAt has a slot at each side of what was read.
func TestResumeAt(t *testing.T) {
	old := Position{At: 100}
	began := Position{At: 100, Last: 50}
	read := Position{At: 100, Last: 50, XID: 7}
	for _, c := range []struct {
		saved     Position
		confirmed LSN
		start     LSN
		proof     Position
	}{
		{old, 40, 100, Position{}},
		{old, 100, 100, Position{}},
		{began, 40, 40, Position{}},
		{began, 60, 60, Position{}},
		{began, 100, 100, Position{}},
		{read, 100, 100, Position{}},
		{read, 60, 60, Position{}},
		{read, 50, 50, Position{}},
		{read, 49, 49, read},
	} {
		start, proof := resumeAt(c.saved, c.confirmed)
		require.Equal(t, c.start, start, "%v %s", c.saved, c.confirmed)
		require.Equal(t, c.proof, proof, "%v %s", c.saved, c.confirmed)
	}
}

func TestTimelineEnd(t *testing.T) {
	history := []byte("# comment\n1\t0/3000060\tno recovery target specified\n\n2\t0/5000000\tx\n")
	end, ok := timelineEnd(history, 2)
	require.True(t, ok)
	require.Equal(t, LSN(0x5000000), end)
	_, ok = timelineEnd(history, 3)
	require.False(t, ok)
}

func TestConfig(t *testing.T) {
	const dsn = "dsn: postgres://u:s3cret@h/db\n"
	for _, c := range []struct{ yaml, want string }{
		{"dsn: ''", "dsn: want a postgres:// URL"},
		{"dsn: 'postgres://u:s3cret@h:port/db'", "dsn: want a postgres:// URL"},
		{"dsn: 'host=h password=s3cret port=x'", "dsn: want a postgres:// URL"},
		{dsn + "tables: {include: [orders]}", "tables.include: want schema.table"},
		{dsn + "tables: {exclude: [a.]}", "tables.exclude: want schema.table"},
		{dsn + "slot: Bad-Name", "slot: want up to 63 of the characters a-z, 0-9 and _"},
		{dsn + "status_interval: 0s", "status_interval: want a positive duration"},
		{dsn + "status_interval: 10s\nread_timeout: 10s", "read_timeout: want more than status_interval"},
		{dsn + "read_timeout: soon", "read_timeout"},
	} {
		conf, err := spec().ParseYAML("name: x\n"+c.yaml, nil)
		require.NoError(t, err)
		_, err = parseConfig(conf, "x")
		require.ErrorContains(t, err, c.want, c.yaml)
		require.NotContains(t, err.Error(), "s3cret")
	}
	conf, err := spec().ParseYAML("name: My Shop-1\n"+dsn, nil)
	require.NoError(t, err)
	c, err := parseConfig(conf, "My Shop-1")
	require.NoError(t, err)
	require.Equal(t, "deltaforge_my_shop_1", c.slot)
	require.Equal(t, "deltaforge_my_shop_1", c.publication)
	require.Equal(t, "UTC", c.conn.RuntimeParams["TimeZone"])
}

func TestUseTLS(t *testing.T) {
	c, err := pgx.ParseConfig("postgres://u@a,b:5433/db?sslmode=prefer")
	require.NoError(t, err)
	useTLS(&c.Config, &tls.Config{MinVersion: tls.VersionTLS12})
	require.Equal(t, "a", c.TLSConfig.ServerName)
	require.Len(t, c.Fallbacks, 1, "no attempt without TLS is left")
	require.Equal(t, "b", c.Fallbacks[0].TLSConfig.ServerName)
}

func TestRegistered(t *testing.T) {
	_, ok := service.GlobalEnvironment().GetInputConfig(componentName)
	require.True(t, ok)
	b := service.NewStreamBuilder()
	require.ErrorContains(t, b.AddInputYAML(`deltaforge_postgres: {name: x, dsn: "", nonsense: 1}`), "nonsense")
}

// TestBadText has text forms that no server sends: an error for each, naming what it was.
func TestBadText(t *testing.T) {
	elem := &typeInfo{codec: codecInt}
	for _, c := range []struct {
		typ *typeInfo
		raw string
	}{
		{&typeInfo{codec: codecBool}, "true"},
		{&typeInfo{codec: codecInt}, ""},
		{&typeInfo{codec: codecInt}, "-"},
		{&typeInfo{codec: codecInt}, "9223372036854775808"},
		{&typeInfo{codec: codecInt}, "-9223372036854775809"},
		{&typeInfo{codec: codecUint}, "18446744073709551616"},
		{&typeInfo{codec: codecUint}, "99999999999999999999"},
		{&typeInfo{codec: codecFloat64}, "1,5"},
		{&typeInfo{codec: codecNumeric}, `1"`},
		{&typeInfo{codec: codecNumeric}, ""},
		{&typeInfo{codec: codecBytea}, "abc"},
		{&typeInfo{codec: codecBytea}, `\x0`},
		{&typeInfo{codec: codecTime, digits: 6}, "1:2:3"},
		{&typeInfo{codec: codecTime, digits: 6}, "10:20:30."},
		{&typeInfo{codec: codecTimestamp, digits: 6}, "today"},
		{&typeInfo{codec: codecTimestampTZ, digits: 6}, "2024-02-29 11:51:30+01"},
		{&typeInfo{codec: codecBit1}, "2"},
		{&typeInfo{codec: codecVector}, "1 x"},
		{&typeInfo{codec: codecPoint}, "1,2"},
		{&typeInfo{codec: codecGeometry}, "01"},
		{&typeInfo{codec: codecArray, elem: elem, delimiter: ','}, "{1"},
		{&typeInfo{codec: codecArray, elem: elem, delimiter: ','}, "{1,}"},
		{&typeInfo{codec: codecArray, elem: elem, delimiter: ','}, "{1}x"},
		{&typeInfo{codec: codecArray, elem: elem, delimiter: ','}, "[0:1]"},
		{&typeInfo{codec: codecArray, elem: elem, delimiter: ','}, `{"1}`},
		{&typeInfo{codec: codecArray, elem: elem, delimiter: ','}, strings.Repeat("{", 1000)},
		{&typeInfo{codec: codecComposite, fields: []field{{"a", elem}}}, "(1,2)"},
		{&typeInfo{codec: codecComposite, fields: []field{{"a", elem}, {"b", elem}}}, "(1)"},
		{&typeInfo{codec: codecHstore}, `"a"=>`},
		{&typeInfo{codec: codecHstore}, `"a"=>"b" "c"=>"d"`},
		{&typeInfo{codec: codecText}, "\xff"},
	} {
		d := decoder{trust: textOrError}
		_, err := d.value(c.typ, []byte(c.raw))
		if d.invalid != nil {
			err = d.invalid
		}
		assert.Error(t, err, "%d %q", c.typ.codec, c.raw)
	}
}

func TestGeometry(t *testing.T) {
	for raw, want := range map[string]string{
		// ST_SetSRID(ST_MakePoint(1, 2), 4326), little-endian, with and without its reference system
		"0101000020E6100000000000000000F03F0000000000000040": `{"wkb":"AQEAAAAAAAAAAADwPwAAAAAAAABA","srid":4326}`,
		"0101000000000000000000F03F0000000000000040":         `{"wkb":"AQEAAAAAAAAAAADwPwAAAAAAAABA","srid":0}`,
		"0020000001000010E63FF00000000000004000000000000000": `{"wkb":"AAAAAAE/8AAAAAAAAEAAAAAAAAAA","srid":4326}`,
	} {
		d := decoder{}
		v, err := d.value(&typeInfo{codec: codecGeometry}, []byte(raw))
		require.NoError(t, err)
		require.Equal(t, want, string(envelope.AppendValue(nil, v)))
	}
}

// TestInexactRow has one value that cannot be decoded: its message carries the error, the others do not.
func TestInexactRow(t *testing.T) {
	rel := benchRelation()
	r := &rows{tx: benchTx(), readAt: time.UnixMilli(1)}
	good := insertMessage("1", "2", "e", "1.0", "t", "2024-02-29 11:51:30+00", "n")
	bad := insertMessage("1", "two", "e", "1.0", "t", "2024-02-29 11:51:30+00", "n")
	for i, body := range [][]byte{good, bad, good} {
		r.add(rowMsg{rel: rel, body: body, lsn: 0x2A, index: uint64(i + 1)})
	}
	batch, err := r.Decode(nil)
	require.NoError(t, err)
	require.Len(t, batch, 3)
	require.NoError(t, batch[0].GetError())
	require.ErrorContains(t, batch[1].GetError(), `public.orders at 0/2A: column customer: integer "two"`)
	require.NoError(t, batch[2].GetError())

	r.add(rowMsg{rel: rel, body: good[:len(good)-1], lsn: 0x2B, index: 4})
	_, err = r.Decode(nil)
	require.ErrorContains(t, err, "decoding a change of public.orders at 0/2B: row is cut short")
}

// TestTruncatedRow: wherever a row message ends, it is an error that says where and what to do.
func TestTruncatedRow(t *testing.T) {
	rel := benchRelation()
	good := insertMessage("1", "2", "e", "1.0", "t", "2024-02-29 11:51:30+00", "n")
	for n := 8; n < len(good); n++ { // after the number of columns
		r := &rows{tx: benchTx(), readAt: time.UnixMilli(1)}
		r.add(rowMsg{rel: rel, body: good[:n], lsn: 0x2A, index: 1})
		_, err := r.Decode(nil)
		require.ErrorContains(t, err, "decoding a change of public.orders at 0/2A: row is cut short in column ")
		require.ErrorContains(t, err, "the source reads it again when it reconnects")
	}
	few := insertMessage("1")
	r := &rows{tx: benchTx(), readAt: time.UnixMilli(1)}
	r.add(rowMsg{rel: rel, body: few, lsn: 0x2A, index: 1})
	_, err := r.Decode(nil)
	require.ErrorContains(t, err, "public.orders at 0/2A: row has 1 columns, its table 7: ")
}

// TestAlteredComposite: the number of fields tells what a value is, or it is not decoded.
func TestAlteredComposite(t *testing.T) {
	text := &typeInfo{codec: codecText}
	one := &typeInfo{codec: codecComposite, fields: []field{{"a", text}}}
	two := &typeInfo{codec: codecComposite, fields: []field{{"a", text}, {"b", text}}}
	altered := &typeInfo{codec: codecAltered, text: "pair", maybe: []*typeInfo{one, two}}
	d := decoder{}
	for raw, want := range map[string]string{
		`()`: `{"a":null}`, `(x)`: `{"a":"x"}`, `("x,y")`: `{"a":"x,y"}`, `(,)`: `{"a":null,"b":null}`, `("""",")")`: `{"a":"\"","b":")"}`,
	} {
		v, err := d.value(altered, []byte(raw))
		require.NoError(t, err, raw)
		require.Equal(t, want, string(envelope.AppendValue(nil, v)), raw)
	}
	for _, raw := range []string{"(,,)", "", "(", "x", `("x)`, `("x"y)`} {
		_, err := d.value(altered, []byte(raw))
		require.Error(t, err, raw)
	}
	_, err := d.value(&typeInfo{codec: codecAltered, text: "pair"}, []byte("(1)"))
	require.ErrorContains(t, err, "the composite type pair was altered about then")
}

// TestWire cuts a stream of messages everywhere.
func TestWire(t *testing.T) {
	var stream []byte
	var want []string
	for _, size := range []int{0, 1, 100, chunkTail, chunkSize, 3 * chunkSize, 5} {
		body := strings.Repeat("x", size)
		want = append(want, body)
		stream = append(stream, 'd')
		stream = append(stream, byte((size+4)>>24), byte((size+4)>>16), byte((size+4)>>8), byte(size+4))
		stream = append(stream, body...)
	}
	for _, step := range []int{1, 7, 4096, len(stream)} {
		w := &wire{src: iotestReader{bytes.NewReader(stream), step}}
		var kept [][]byte
		for range want {
			_, body, err := w.next()
			require.NoError(t, err)
			kept = append(kept, body)
		}
		for i, body := range kept {
			require.Equal(t, want[i], string(body), "message %d in steps of %d", i, step)
		}
		_, _, err := w.next()
		require.ErrorIs(t, err, io.EOF)
	}
	w := &wire{src: bytes.NewReader([]byte{'d', 0xff, 0xff, 0xff, 0xff})}
	_, _, err := w.next()
	require.ErrorContains(t, err, "impossible length")
	// The driver's reads leave what follows alone.
	w = &wire{src: bytes.NewReader([]byte("handshake" + string(stream)))}
	head := make([]byte, 9)
	_, err = io.ReadAtLeast(w, head, 9)
	require.NoError(t, err)
	_, body, err := w.next()
	require.NoError(t, err)
	require.Empty(t, body)
}

// iotestReader returns at most step bytes a read.
type iotestReader struct {
	r    io.Reader
	step int
}

func (r iotestReader) Read(p []byte) (int, error) { return r.r.Read(p[:min(len(p), r.step)]) }

// TestRecordConn passes TLS records on one by one and knows when a further one is there.
func TestRecordConn(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	go func() {
		buf := make([]byte, 8)
		_, _ = io.ReadFull(server, buf)
		_, _ = server.Write([]byte("S\x17\x03\x03\x00\x02ab\x17\x03\x03\x00\x01c\x17\x03"))
		_, _ = server.Write([]byte("\x03\x00\x01d"))
	}()
	c := &recordConn{Conn: client}
	_, err := c.Write([]byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f})
	require.NoError(t, err)
	buf := make([]byte, 100)
	read := func(want string, more bool) {
		t.Helper()
		n, err := c.Read(buf)
		require.NoError(t, err)
		require.Equal(t, want, string(buf[:n]))
		require.Equal(t, more, c.more())
	}
	read("S", true)
	read("\x17\x03\x03\x00\x02ab", true)
	read("\x17\x03\x03\x00\x01c", false)
	n, err := io.ReadFull(c, buf[:6])
	require.NoError(t, err)
	require.Equal(t, "\x17\x03\x03\x00\x01d", string(buf[:n]))
}

func TestAppendStatus(t *testing.T) {
	for _, c := range []struct {
		written, flushed, first LSN
		ask                     bool
	}{{0x30, 0x20, 0x30, true}, {0x30, 0x20, 0x30, false}, {0x10, 0x20, 0x20, false}} {
		b := appendStatus(nil, c.written, c.flushed, time.UnixMicro(postgresEpoch+5), c.ask)
		want := []byte{
			'd', 0, 0, 0, 38, 'r', 0, 0, 0, 0, 0, 0, 0, byte(c.first), 0, 0, 0, 0, 0, 0, 0, byte(c.flushed), 0, 0, 0, 0, 0, 0, 0, byte(c.flushed),
			0, 0, 0, 0, 0, 0, 0, 5, 0,
		}
		if c.ask {
			want[len(want)-1] = 1
		}
		require.Equal(t, want, b)
	}
}
