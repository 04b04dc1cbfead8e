package demo_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	_ "github.com/deltaforge/deltaforge"
	"github.com/deltaforge/deltaforge/internal/demo"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
)

// output is what the user sees. It may be read while it is written to.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// tempDir makes the demo's directories show up in one that is checked to be empty at the end. Servers that run under another
// account have to get through it, so it is not t.TempDir.
func tempDir(t *testing.T) {
	dir, err := os.MkdirTemp("", "deltaforge-test-") //nolint:usetesting // see above
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o711))
	t.Setenv("TMPDIR", dir)
	t.Cleanup(func() {
		left, err := os.ReadDir(dir)
		assert.NoError(t, err)
		assert.Empty(t, left, "files that the demo has left")
		assert.NoError(t, os.RemoveAll(dir))
	})
}

// needsServer skips a test of the whole demo under -short. Otherwise the demo finds its own server, or fails.
func needsServer(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
}

// checkLeaks fails the test when a goroutine is left at its end.
func checkLeaks(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		// It looks for a second or so, which may be too short on a busy machine.
		var err error
		for end := time.Now().Add(time.Minute); time.Now().Before(end); {
			if err = goleak.Find(before); err == nil {
				return
			}
		}
		t.Error(err)
	})
}

// runDemo runs a demo that has to succeed, and returns what it printed.
func runDemo(t *testing.T, opts demo.Options) string {
	checkLeaks(t)
	tempDir(t)
	// Somebody else has the port of the metrics page.
	taken, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a port that is taken
	require.NoError(t, err)
	defer taken.Close()
	opts.MetricsAddress = taken.Addr().String()
	out := &output{}
	opts.Out = out
	err = demo.Run(t.Context(), nil, opts)
	text := out.String()
	t.Log(text)
	require.NoError(t, err)

	assert.Contains(t, text, ", because "+opts.MetricsAddress+" is taken")
	assert.Contains(t, text, "deltaforge_kafka:\n")
	assert.Contains(t, text, `"op": "r"`, "the first event")
	assert.Contains(t, text, "Nothing was lost, nothing came twice, nothing came out of order.")
	// Customers and orders, written and received.
	totals := regexp.MustCompile(`(?m)([0-9,]+)  \S*(written|received)\S*$`).FindAllStringSubmatch(text, -1)
	require.Len(t, totals, 4)
	assert.Equal(t, totals[0][1], totals[1][1])
	assert.Equal(t, totals[2][1], totals[3][1])
	assert.Greater(t, len(totals[2][1]), len("99"), "fewer than 100 rows of orders: the shop hardly opened")
	return text
}

func TestDemoOnPostgres(t *testing.T) {
	needsServer(t)
	runDemo(t, demo.Options{For: 8 * time.Second, Rate: 400})
}

func TestDemoOnMySQL(t *testing.T) {
	needsServer(t)
	assert.Contains(t, runDemo(t, demo.Options{For: 8 * time.Second, Rate: 400, MySQL: true}), "MySQL")
}

func TestDemoOnMariaDBWhereThereIsNoMySQL(t *testing.T) {
	needsServer(t)
	t.Setenv("DELTAFORGE_SERVERS", t.TempDir())
	assert.Contains(t, runDemo(t, demo.Options{For: 8 * time.Second, Rate: 400, MySQL: true}), "MariaDB")
}

func TestDemoOnATerminal(t *testing.T) {
	needsServer(t)
	runDemo(t, demo.Options{For: 8 * time.Second, Rate: 400, Terminal: true})
}

// A row that somebody else writes arrives as an event of a row that the shop has not written.
func TestDemoFailsWhenEventsDiffer(t *testing.T) {
	needsServer(t)
	checkLeaks(t)
	tempDir(t)
	out := &output{}
	planted := make(chan error, 1)
	go func() { planted <- plant(t.Context(), out) }()
	err := demo.Run(t.Context(), nil, demo.Options{For: 12 * time.Second, Rate: 100, MetricsAddress: "127.0.0.1:0", Out: out})
	require.NoError(t, <-planted)
	require.ErrorIs(t, err, demo.ErrDiffer)
	assert.Regexp(t, `customers: \d+ rows written by insert, \d+ events received`, out.String())
	assert.NotContains(t, out.String(), "Nothing was lost")
}

// plant waits until the shop is open and writes to its database.
func plant(ctx context.Context, out *output) error {
	dsn := regexp.MustCompile(`dsn: '(.*)'`)
	for !strings.Contains(out.String(), "The first event:") {
		if err := ctx.Err(); err != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
	conn, err := pgx.Connect(ctx, dsn.FindStringSubmatch(out.String())[1])
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "INSERT INTO customers VALUES (-1, 'x', 'x', NULL, 0, 1)")
	return err
}

// What cannot start says why and leaves nothing.
func TestDemoThatCannotStart(t *testing.T) {
	tempDir(t)
	for name, opts := range map[string]demo.Options{
		"the rate: want at least 1 row a second, got 0":                  {MetricsAddress: "127.0.0.1:0"},
		"the address for metrics: address 9000: missing port in address": {Rate: 1, MetricsAddress: "9000"},
		"finding an address for metrics: listen tcp 192.0.2.1:9000":      {Rate: 1, MetricsAddress: "192.0.2.1:9000"},
	} {
		out := &output{}
		opts.Out = out
		err := demo.Run(t.Context(), nil, opts)
		assert.ErrorContains(t, err, name)
	}
}
