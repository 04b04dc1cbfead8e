package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

// A person looks at the events that could not be delivered, mends the configuration, and replays them in order.
func TestDeadLetterCommands(t *testing.T) {
	dir := testenv.TempDir(t, "run.yaml", "mended.yaml", "out")
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	write("run.yaml", "http: {address: "+freeAddress(t)+`}
metrics: {none: {}}
input: {generate: {count: 6, interval: '', mapping: 'root.n = counter()'}}
pipeline: {processors: [{mapping: 'root = if this.n % 2 == 0 { throw("it is even (kind=routing)") } else { this }'}]}
output:
  switch:
    cases:
      - {check: errored(), output: {deltaforge_dlq: {path: dlq.db}}}
      - {output: {file: {path: out, codec: lines}}}
`)
	run := func(want int, args ...string) string {
		t.Helper()
		p := launch(t, dir, nil, args...)
		require.Equal(t, want, p.wait(), "%s", p.out)
		return p.out.String()
	}
	run(0, "run", "run.yaml")
	assert.Contains(t, run(1, "dlq", "list"), "opening the dead letters in deltaforge_dlq.db: no such file or directory; --path names the file")

	list := strings.Split(strings.TrimSpace(run(0, "dlq", "list", "-p", "dlq.db")), "\n")
	require.Len(t, list, 4)
	assert.Regexp(t, `^1 .*routing +1 .*it is even`, list[1])
	assert.Contains(t, run(0, "dlq", "list", "-p", "dlq.db", "--limit", "1", "--json"), `{"id":1,"kind":"routing"`)
	var shown struct {
		ID      int    `json:"id"`
		Payload string `json:"payload"`
		Error   string `json:"error"`
	}
	require.NoError(t, json.Unmarshal([]byte(run(0, "dlq", "show", "-p", "dlq.db", "2")), &shown))
	assert.Equal(t, 2, shown.ID)
	assert.JSONEq(t, `{"n":4}`, shown.Payload)
	assert.Contains(t, shown.Error, "it is even")
	assert.Contains(t, run(1, "dlq", "show", "-p", "dlq.db", "9"), "no such dead letter: ")
	assert.Contains(t, run(1, "dlq", "show", "-p", "dlq.db", "x"), `"x" is not the ID of an entry`)
	assert.Contains(t, run(1, "dlq", "show", "-p", "dlq.db"), "want one ID, got 0 arguments")

	assert.Contains(t, run(0, "dlq", "purge", "-p", "dlq.db", "2"), "1 removed")
	assert.Contains(t, run(1, "dlq", "purge", "-p", "dlq.db"), "say which, by ID, or --all")
	write("mended.yaml", "pipeline: {processors: [{mapping: 'root = this.assign({\"mended\": true})'}]}\noutput: {file: {path: out, codec: lines}}\n")
	assert.Contains(t, run(1, "dlq", "replay", "-p", "dlq.db", "-c", "run.yaml", "--processors", "1"), "0 delivered, 1 failed again")
	assert.Contains(t, run(0, "dlq", "replay", "-p", "dlq.db", "-c", "mended.yaml", "--processors", "--table", "no.such"), "0 delivered, 0 failed again")
	assert.Contains(t, run(0, "dlq", "replay", "-p", "dlq.db", "-c", "mended.yaml", "--processors"), "2 delivered, 0 failed again")
	out, err := os.ReadFile(filepath.Join(dir, "out"))
	require.NoError(t, err)
	assert.Equal(t, `{"n":1}
{"n":3}
{"n":5}
{"mended":true,"n":2}
{"mended":true,"n":6}
`, string(out))
	assert.Contains(t, run(0, "dlq", "purge", "-p", "dlq.db", "--all"), "0 removed")
}
