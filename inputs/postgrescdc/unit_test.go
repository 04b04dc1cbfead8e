package postgrescdc

import (
	"crypto/tls"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
)

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
		confirmed lsn.LSN
		start     lsn.LSN
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
	require.Equal(t, lsn.LSN(0x5000000), end)
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
