package testenv

import (
	"bytes"
	"context"
	"encoding/base64"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

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
