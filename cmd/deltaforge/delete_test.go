package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// A pipeline is deleted while Kafka is away: that takes seconds, and the position that is left is not beyond what Kafka has.
func TestDeleteWhileKafkaIsAway(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	dir, page := testenv.TempDir(t, given()...), freeAddress(t)
	root := filepath.Join(dir, "numbers.yaml")
	require.NoError(t, os.WriteFile(root, fmt.Appendf(nil, "http: {address: %q}\nmetrics: {deltaforge: {address: %q}}\n", freeAddress(t), page), 0o600))
	p := streams(t, dir, nil, "-o", root)
	sent := func() float64 {
		text := (&program{t: t, url: "http://" + page}).want(200, "GET", "/metrics", "")
		return numberOf(text, "deltaforge_sink_events_total", `pipeline="orders"`)
	}
	p.want(200, "POST", "/streams/orders", fmt.Sprintf("input: {test_log: {name: orders, checkpoint: {path: p.db, interval_ms: 10}, batch: {max_ms: 5}}}\n"+
		"output: {deltaforge_kafka: {seed_brokers: [%q], topic: t, timeout: 1s}}\n", c.ListenAddrs()[0]))
	require.Eventually(t, func() bool { return sent() > 10 }, 60*time.Second, 50*time.Millisecond, "%s", p.out)
	c.Close()
	require.Eventually(t, func() bool { status, _ := p.call("GET", "/ready", ""); return status == 503 }, 60*time.Second, 50*time.Millisecond)
	has := sent()
	began := time.Now()
	p.want(200, "DELETE", "/streams/orders", "")
	t.Logf("deleted in %s", time.Since(began))
	p.want(404, "GET", "/streams/orders", "")

	s, err := checkpoint.OpenExistingSQLite(t.Context(), filepath.Join(dir, "p.db"))
	require.NoError(t, err)
	defer func() { assert.NoError(t, s.Close()) }()
	at, err := checkpoint.Load(t.Context(), s, "orders", "test") // locks it: the pipeline has let go of it
	require.NoError(t, err)
	saved, err := strconv.Atoi(strings.TrimPrefix(at.String(), "tx"))
	require.NoError(t, err)
	assert.LessOrEqual(t, float64(saved), has)
	assert.Positive(t, saved)
	p.end(syscall.SIGTERM)
	assert.Zero(t, p.cmd.ProcessState.ExitCode(), p.out)
}
