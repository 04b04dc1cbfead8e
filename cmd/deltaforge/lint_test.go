package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

// TestLintSeesTheStream: what gives up a guarantee is found by lint, by /validate, and said by the first lines of a run.
func TestLintSeesTheStream(t *testing.T) {
	dir := testenv.TempDir(t, given()...)
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	const unreachable = `
input: {deltaforge_mysql: {name: orders, dsn: 'u@tcp(127.0.0.1:1)/', tables: {include: ['shop.a']}}}
output: {deltaforge_redis: {url: 'redis://127.0.0.1:1', stream: x}}
`
	const want = "buffer.memory: it acknowledges what it holds in memory"
	good := write("good.yaml", unreachable)
	bad := write("bad.yaml", unreachable+"buffer: {memory: {}}\n")

	p := launch(t, dir, nil, "lint", good)
	assert.Zero(t, p.wait(), p.out)
	for _, arg := range []string{bad, filepath.Join(dir, "*.yaml"), dir + "/..."} {
		p = launch(t, dir, nil, "lint", arg)
		assert.Equal(t, 1, p.wait(), p.out)
		assert.Contains(t, p.out.String(), "bad.yaml(4,1) "+want)
		assert.NotContains(t, p.out.String(), "good.yaml")
	}

	// The engine's memory buffer is said in run mode as well, and in streams mode, where /validate says it, too.
	root := fmt.Sprintf("http: {address: %q}\nmetrics: {none: {}}\n", freeAddress(t))
	p = launch(t, dir, nil, "run", write("run.yaml", root+unreachable+"buffer: {memory: {}}\n"))
	require.Eventually(t, func() bool {
		return strings.Contains(p.out.String(), "This stream gives up a guarantee of its source. "+want)
	}, patience, 20*time.Millisecond, "%s", p.out)
	p.end(syscall.SIGTERM)

	p = streams(t, dir, nil, "-o", write("root.yaml", root))
	p.want(200, "POST", "/streams/a", unreachable+"buffer: {memory: {}}\n")
	require.Eventually(t, func() bool {
		return strings.Contains(p.out.String(), "This stream gives up a guarantee of its source. "+want)
	}, patience, 20*time.Millisecond, "%s", p.out)
	assert.Contains(t, p.want(400, "POST", "/validate", unreachable+"buffer: {memory: {}}\n"), want)
}

// TestTerminationIsQuick: containers are killed ten seconds after SIGTERM. A sink that is away, with a row on its way to it, must not make the
// process need them.
func TestTerminationIsQuick(t *testing.T) {
	for name, output := range map[string]string{
		"connection refused": "{deltaforge_redis: {url: 'redis://127.0.0.1:1', stream: x}}",
		"no answer":          "{deltaforge_redis: {url: 'redis://" + deaf(t) + "', stream: x}}",
		"a stock output":     "{http_client: {url: 'http://" + deaf(t) + "', timeout: 1m}}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := testenv.TempDir(t, given()...)
			config := filepath.Join(dir, "run.yaml")
			require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, "http: {address: %q}\nmetrics: {none: {}}\ninput: {test_log: {name: orders}}\noutput: %s\n",
				freeAddress(t), output), 0o600))
			p := launch(t, dir, nil, "run", config)
			require.Eventually(t, func() bool { return strings.Contains(p.out.String(), "Reading the log of orders") }, patience, 20*time.Millisecond, "%s", p.out)
			began := time.Now()
			p.end(syscall.SIGTERM)
			assert.Less(t, time.Since(began), 9500*time.Millisecond, "%s", p.out)
		})
	}
}

// deaf returns the address of a server that takes connections and says nothing.
func deaf(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String() // the kernel accepts for it
}
