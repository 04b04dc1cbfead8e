package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

// lint runs the binary's lint over a file.
func lint(t *testing.T, env []string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary(t), append([]string{"lint"}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

func TestExamplesLint(t *testing.T) {
	files, err := filepath.Glob("../../config/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	more, err := filepath.Glob("../../config/*/*.yaml")
	require.NoError(t, err)
	files = append(files, more...)
	env := []string{"MYSQL_DSN=u:p@tcp(127.0.0.1:3306)/", "POSTGRES_DSN=postgres://u:p@127.0.0.1/shop", "SALT=salt"}
	for _, f := range files {
		assert.Empty(t, lint(t, env, f), "%s", f)
	}
}

// The YAML blocks of the README are whole streams, and lint.
func TestReadmeStreamsLint(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	require.NotEmpty(t, blocks)
	for _, b := range blocks {
		f := filepath.Join(t.TempDir(), "stream.yaml")
		require.NoError(t, os.WriteFile(f, []byte(b[1]), 0o600))
		assert.Empty(t, lint(t, nil, f))
	}
}

// Every example runs as it is, but for the names of what it talks to, and delivers a row.
func TestExamplesRun(t *testing.T) {
	binary(t)
	examples := map[string]struct {
		open func(t *testing.T) (source, []string)
		dst  func(t *testing.T, src source) (env []string, arrived func(t *testing.T) []delivered)
	}{
		"mysql-to-kafka.yaml":    {exampleMySQL, exampleKafka},
		"postgres-to-kafka.yaml": {examplePostgres, exampleKafka},
		"postgres-to-redis.yaml": {examplePostgres, exampleRedis},

		"mysql-to-redis-exactly-once.yaml": {exampleMySQL, exampleRedis},
		"mysql-to-redis-cache.yaml":        {exampleMySQL, exampleCopy},
	}
	files, err := filepath.Glob("../../config/*-to-*.yaml")
	require.NoError(t, err)
	require.Len(t, files, len(examples), "every stream in config/ has a line here")
	for name, e := range examples {
		t.Run(name, func(t *testing.T) {
			src, env := e.open(t)
			sinkEnv, arrived := e.dst(t, src)
			p := newProcess(t, "")
			main, err := os.ReadFile(p.config)
			require.NoError(t, err)
			stream, err := os.ReadFile(filepath.Join("../../config", name))
			require.NoError(t, err)
			text := strings.NewReplacer("name: shop", "name: "+src.slug, `"shop.*"`, `"`+src.slug+`.*"`,
				"prefix: shop", "prefix: "+src.slug).Replace(string(stream))
			require.NoError(t, os.WriteFile(p.config, append([]byte(text), main...), 0o600))
			for _, v := range append(env, sinkEnv...) {
				k, val, _ := strings.Cut(v, "=")
				t.Setenv(k, val)
			}
			w := src.workload(t)
			p.start()
			if strings.Contains(text, "exactly_once: true") {
				awaitKept(t, p)
			} else {
				awaitSaved(t, p)
			}
			w.sentinel()
			eventually(t, 30*time.Second, "the row delivered", func() bool { return complete(arrived(t)) })
			v, ok := p.metric("deltaforge_source_events_total", `table="`+src.full+`"`, `op="c"`)
			assert.True(t, ok)
			assert.InDelta(t, 1, v, 0)
			p.stop()
		})
	}
}

func exampleMySQL(t *testing.T) (source, []string) {
	t.Helper()
	srv := testenv.MySQL(t)
	src := mysqlSource(t, srv)
	return src, []string{"MYSQL_DSN=" + srv.UserDSN("")}
}

func examplePostgres(t *testing.T) (source, []string) {
	t.Helper()
	srv := testenv.Postgres(t)
	src := postgresSource(t, srv)
	return src, []string{"POSTGRES_DSN=" + srv.UserDSN(src.slug)}
}

func exampleKafka(t *testing.T, src source) ([]string, func(t *testing.T) []delivered) {
	t.Helper()
	srv := testenv.Kafka(t)
	topic := src.slug + "." + src.full
	srv.CreateTopic(t, topic, 1) // create_topics leaves it alone
	return []string{"KAFKA_BROKERS=" + srv.Brokers()[0]}, func(t *testing.T) []delivered {
		t.Helper()
		var out []delivered
		for _, r := range srv.ConsumeAll(t, topic) {
			out = append(out, delivered{key: r.Key, value: r.Value})
		}
		return out
	}
}

func exampleRedis(t *testing.T, src source) ([]string, func(t *testing.T) []delivered) {
	t.Helper()
	srv := testenv.Redis(t)
	return []string{"REDIS_URL=" + srv.URL()}, func(t *testing.T) []delivered {
		t.Helper()
		return readStream(t, srv, src.slug+":"+src.full)
	}
}

// exampleCopy takes the hash of the sentinel for its event.
func exampleCopy(t *testing.T, src source) ([]string, func(t *testing.T) []delivered) {
	t.Helper()
	srv := testenv.Redis(t)
	return []string{"REDIS_URL=" + srv.URL()}, func(t *testing.T) []delivered {
		t.Helper()
		row := srv.Client(t).HGetAll(t.Context(), fmt.Sprintf("%s:%s:%d", src.slug, src.full, sentinelID)).Val()
		if row["note"] != "the end" {
			return nil
		}
		return []delivered{{key: sentinelKey}}
	}
}
