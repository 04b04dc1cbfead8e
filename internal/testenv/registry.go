package testenv

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hamba/avro/v2"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/servers/binaries"
)

// StartRegistry starts a schema registry for this test alone.
func StartRegistry(t testing.TB) *servers.Registry {
	t.Helper()
	return privateServer(t, servers.Options{}, servers.StartRegistry)
}

// ReadRegistered returns what a consumer in Java reads of messages in Confluent's wire format, by the schemas of a registry.
func ReadRegistered(t testing.TB, r *servers.Registry, messages ...[]byte) []string {
	t.Helper()
	dir, err := binaries.Registry()
	if err != nil {
		unavailable(t, err)
	}
	java, err := binaries.Java()
	if err != nil {
		unavailable(t, err)
	}
	var in, out, log bytes.Buffer
	for _, m := range messages {
		in.WriteString(base64.StdEncoding.EncodeToString(m) + "\n")
	}
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	cmd := exec.CommandContext(ctx, java, "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", dir+string(filepath.ListSeparator)+filepath.Join(dir, "lib", "*"), "Reader", r.URL())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &in, &out, &log
	if err := cmd.Run(); err != nil {
		t.Fatalf("reading in Java: %v\n%s", err, log.String())
	}
	return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
}

// RequireDefaults checks that a row in Avro, read by the schema of a newer one, has in the columns that are new what the newer one has.
func RequireDefaults(t testing.TB, r *servers.Registry, old, now []byte) {
	t.Helper()
	writer, reader := schemaOf(t, r, old), schemaOf(t, r, now)
	require.NotEqual(t, writer.Fingerprint(), reader.Fingerprint())
	both, err := avro.NewSchemaCompatibility().Resolve(reader, writer)
	require.NoError(t, err)
	var got, want map[string]any
	require.NoError(t, avro.Unmarshal(both, old[head:], &got))
	require.NoError(t, avro.Unmarshal(reader, now[head:], &want))
	got["id"] = want["id"]
	require.Equal(t, fmt.Sprint(want), fmt.Sprint(got))
}

// head is what is before a payload in Confluent's wire format: a zero and the number of the schema.
const head = 5

func schemaOf(t testing.TB, r *servers.Registry, message []byte) avro.Schema {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("%s/schemas/ids/%d", r.URL(), binary.BigEndian.Uint32(message[1:])), http.NoBody)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	var answer struct{ Schema string }
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
	schema, err := avro.ParseWithCache(answer.Schema, "", &avro.SchemaCache{})
	require.NoError(t, err)
	return schema
}
