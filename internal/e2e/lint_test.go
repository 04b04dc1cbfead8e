package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A mistake in a configuration is found offline, by lint and at the start, and the message says what is wanted.
func TestBadConfiguration(t *testing.T) {
	bin := binary(t)
	hide(t, "the password of a bad configuration", "s3cret+word")
	const (
		mysql    = "input:\n  deltaforge_mysql:\n    name: shop\n    dsn: u:s3cret+word@tcp(127.0.0.1:1)/\n"
		postgres = "input:\n  deltaforge_postgres:\n    name: shop\n    dsn: postgres://u:s3cret+word@127.0.0.1:1/shop\n"
		kafka    = "output:\n  deltaforge_kafka:\n    seed_brokers: [ 127.0.0.1:1 ]\n    topic: t\n"
		redis    = "output:\n  deltaforge_redis:\n    url: redis://127.0.0.1:1\n    stream: s\n"
	)
	for _, c := range []struct {
		name, config string
		linted       bool // lint finds it too, and not only the start
		want         []string
	}{
		{"no name", strings.Replace(mysql, "shop", `""`, 1) + kafka, true, []string{"want a name"}},
		{"unknown field", mysql + "    tabels: {}\n" + kafka, true, []string{"tabels"}},
		{"batch size", mysql + "    batch: {max_events: 0}\n" + kafka, true, []string{"want at least 1, got 0"}},
		{"mysql pattern", mysql + "    tables: {include: [ shop ]}\n" + kafka, true, []string{"table pattern", "got shop"}},
		{"postgres pattern", postgres + "    tables: {exclude: [ shop ]}\n" + redis, true, []string{"table pattern", "got shop"}},
		{"flavor", mysql + "    flavor: oracle\n" + kafka, true, []string{"oracle"}},
		{"no broker", mysql + strings.Replace(kafka, "[ 127.0.0.1:1 ]", "[]", 1), true, []string{"want at least one broker"}},
		{"compression", mysql + kafka + "    compression: brotli\n", true, []string{"brotli"}},
		{"start", mysql + "    start: yesterday\n" + kafka, false, []string{"start:", "yesterday", "latest, earliest"}},
		{"server id", mysql + "    server_id: -1\n" + kafka, false, []string{"server_id", "-1"}},
		{"mysql dsn", strings.Replace(mysql, "u:s3cret+word@tcp(127.0.0.1:1)/", "u:s3cret+word@nowhere", 1) + kafka, false, []string{"dsn"}},
		{"postgres dsn", strings.Replace(postgres, "postgres://u:s3cret+word@127.0.0.1:1/shop", "postgres://u:s3cret+word@127.0.0.1:port/", 1) + kafka, false, []string{"dsn"}},
		{"slot", postgres + "    slot: My-Slot\n" + redis, false, []string{"slot", "My-Slot"}},
		{"cache", postgres + "    checkpoint: {cache: nowhere}\n" + redis, false, []string{"checkpoint.cache", "nowhere"}},
		{"redis url", postgres + strings.Replace(redis, "redis://", "http://", 1), false, []string{"url"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, f := wroteDir(t), filepath.Join(givenDir(t), "bad.yaml")
			require.NoError(t, os.WriteFile(f, []byte(c.config+"metrics: {none: {}}\nhttp: {enabled: false}\n"), 0o600))
			commands := [][]string{{"run", f}}
			if c.linted {
				commands = append(commands, []string{"lint", f})
			}
			for _, args := range commands {
				cmd := exec.CommandContext(t.Context(), bin, args...)
				cmd.Dir = dir
				out, err := cmd.CombinedOutput()
				require.Error(t, err, "%s accepts it:\n%s", args[0], out)
				for _, w := range c.want {
					assert.Contains(t, string(out), w, "%s", args[0])
				}
				assert.Empty(t, passwords.In(out), "%s shows the password", args[0])
			}
			files, err := os.ReadDir(dir)
			require.NoError(t, err)
			assert.Empty(t, files, "a refused configuration leaves nothing behind")
		})
	}
}
