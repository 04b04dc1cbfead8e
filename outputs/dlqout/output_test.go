package dlqout

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/redpanda-data/benthos/v4/public/components/io"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/deadletter"
)

// send runs an output with one batch.
func send(t *testing.T, output string, texts ...string) error {
	t.Helper()
	b := service.NewStreamBuilder()
	require.NoError(t, b.SetLoggerYAML("level: OFF"))
	require.NoError(t, b.AddOutputYAML(output))
	write, err := b.AddBatchProducerFunc()
	require.NoError(t, err)
	stream, err := b.Build()
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- stream.Run(t.Context()) }()
	var batch service.MessageBatch
	for i, text := range texts {
		m := service.NewMessage([]byte(text))
		m.MetaSetMut("event_id", fmt.Sprint("e", i))
		batch = append(batch, m)
	}
	sent := write(t.Context(), batch)
	require.NoError(t, stream.Stop(t.Context()))
	require.NoError(t, <-done)
	return sent
}

// After another output, and behind a switch.
func TestFallback(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dlq.db")
	require.NoError(t, send(t, `fallback: [{reject: 'no room for it (kind=too_large)'}, {deltaforge_dlq: {path: `+path+`}}]`, "a", "b"))
	s, err := deadletter.Open(t.Context(), path, false)
	require.NoError(t, err)
	defer func() { assert.NoError(t, s.Close()) }()
	list, err := s.List(t.Context(), deadletter.Filter{}, true)
	require.NoError(t, err)
	require.Len(t, list, 2)
	assert.Equal(t, "too_large", list[0].Kind)
	assert.Contains(t, list[0].Error, "no room for it")
	assert.Equal(t, map[string]string{"event_id": "e0"}, list[0].Metadata)
	assert.Equal(t, "b", string(list[1].Payload))
}

// Into another output, each as one document.
func TestOtherOutput(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out")
	require.NoError(t, send(t, `fallback: [{reject: 'never (kind=routing)'}, {deltaforge_dlq: {output: {file: {path: `+file+`, codec: lines}}}}]`, "a", "\xff"))
	out, err := os.ReadFile(file)
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	require.Len(t, lines, 2)
	var first, second map[string]any
	require.NoError(t, json.Unmarshal([]byte(lines[0]), &first))
	require.NoError(t, json.Unmarshal([]byte(lines[1]), &second))
	assert.Equal(t, "a", first["payload"])
	assert.Equal(t, "routing", first["kind"])
	assert.Contains(t, first["error"], "never")
	assert.Equal(t, map[string]any{"event_id": "e0"}, first["metadata"])
	assert.Equal(t, "/w==", second["payload_base64"])
	assert.NotContains(t, second, "payload")
	_, err = os.Stat(deadletter.DefaultPath)
	require.ErrorIs(t, err, os.ErrNotExist, "no file is made")
}

func TestConfigErrors(t *testing.T) {
	for text, want := range map[string]string{
		"path: ''":         "field path: wants the name of a file",
		"when_full: maybe": `field when_full: "maybe" is neither block nor drop_oldest`,
	} {
		p, err := spec().ParseYAML(text, nil)
		require.NoError(t, err)
		_, err = newOutput(p, service.MockResources())
		require.ErrorContains(t, err, want)
	}
}
