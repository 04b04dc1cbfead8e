package metrics

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	_ "github.com/redpanda-data/benthos/v4/public/components/io"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

// cliVariable makes the test binary the engine's CLI: what runs until a signal is best run as a process.
const cliVariable = "DELTAFORGE_METRICS_TEST_CLI"

func TestMain(m *testing.M) {
	if os.Getenv(cliVariable) != "" {
		env := service.NewEnvironment()
		if err := (components{}).register(env); err != nil {
			panic(err)
		}
		log := slog.New(slog.NewTextHandler(os.Stderr, nil))
		service.RunCLI(context.Background(), service.CLIOptSetEnvironment(env), service.CLIOptAddTeeLogger(log))
		return
	}
	os.Exit(testenv.MainWithoutLeaks(m))
}

// logBuffer collects the log of a stream, where tests find the address that was bound.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, _ = testenv.Said().Write(p)
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (b *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

var servingLine = regexp.MustCompile(`msg="Serving metrics" address=(\S+)`)

// url waits for the exporter to log its address.
func (b *logBuffer) url(t *testing.T) string {
	t.Helper()
	var found []string
	require.Eventually(t, func() bool {
		found = servingLine.FindStringSubmatch(b.String())
		return found != nil
	}, time.Minute, 5*time.Millisecond, "no address in the log")
	return "http://" + found[1] + "/metrics"
}

// components are what a test adds to a stream.
type components struct {
	// input is called by the constructor of the input test_source, which delivers nothing until the stream ends.
	input func(m *service.Metrics)
	// write is called by the output test_sink for every batch.
	write func(m *service.Metrics, batch service.MessageBatch) error
}

func (c components) environment(t *testing.T) *service.Environment {
	t.Helper()
	env := service.NewEnvironment()
	require.NoError(t, c.register(env))
	return env
}

func (c components) register(env *service.Environment) error {
	err := env.RegisterBatchInput("test_source", service.NewConfigSpec(),
		func(_ *service.ParsedConfig, res *service.Resources) (service.BatchInput, error) {
			if c.input != nil {
				c.input(res.Metrics())
			}
			return idleInput{}, nil
		})
	return errors.Join(err, env.RegisterBatchOutput("test_sink", service.NewConfigSpec(),
		func(_ *service.ParsedConfig, res *service.Resources) (service.BatchOutput, service.BatchPolicy, int, error) {
			return &hookedOutput{metrics: res.Metrics(), write: c.write}, service.BatchPolicy{}, 1, nil
		}))
}

type idleInput struct{}

func (idleInput) Connect(context.Context) error { return nil }

func (idleInput) ReadBatch(ctx context.Context) (service.MessageBatch, service.AckFunc, error) {
	<-ctx.Done()
	return nil, nil, ctx.Err()
}

func (idleInput) Close(context.Context) error { return nil }

type hookedOutput struct {
	metrics *service.Metrics
	write   func(*service.Metrics, service.MessageBatch) error
}

func (o *hookedOutput) Connect(context.Context) error { return nil }

func (o *hookedOutput) WriteBatch(_ context.Context, b service.MessageBatch) error {
	return o.write(o.metrics, b)
}

func (o *hookedOutput) Close(context.Context) error { return nil }

// start runs a stream until the test ends and returns the address of its page. Its inputs test_source are built by then: the exporter
// serves before there is any component.
func start(t *testing.T, c components, yaml string) (url string, log *logBuffer) {
	t.Helper()
	log = &logBuffer{}
	var built atomic.Int64
	input := c.input
	c.input = func(m *service.Metrics) {
		defer built.Add(1)
		if input != nil {
			input(m)
		}
	}
	builder := c.environment(t).NewStreamBuilder()
	require.NoError(t, builder.SetYAML(yaml))
	builder.SetLogger(log.logger())
	stream, err := builder.Build()
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- stream.Run(context.Background()) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		assert.NoError(t, stream.Stop(ctx))
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("stream ended with %v", err)
		}
	})
	url = log.url(t)
	all := int64(strings.Count(yaml, "test_source:"))
	require.Eventually(t, func() bool { return built.Load() >= all }, time.Minute, time.Millisecond, "the inputs are not built")
	return url, log
}

// scrape returns the page as Prometheus gets it, after it has passed the lint that promtool does.
func scrape(t require.TestingT, url string) string {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	require.NoError(t, err)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, errors.Join(err, resp.Body.Close()))
	_, _ = testenv.Said().Write(body)
	require.Equal(t, http.StatusOK, resp.StatusCode, string(body))
	problems, err := promlint.New(bytes.NewReader(body)).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
	return string(body)
}

// series returns the lines of a page that begin with prefix and do not depend on time or build: no buckets and sums
// of latencies, no build_info.
func series(page, namePrefix string) string {
	var lines []string
	for line := range strings.SplitSeq(page, "\n") {
		name, _, _ := strings.Cut(line, "{")
		timed := strings.HasSuffix(name, "_seconds_sum") || strings.HasSuffix(name, "_seconds_bucket")
		if strings.HasPrefix(name, namePrefix) && !timed && name != "deltaforge_build_info" {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

// golden waits until the lines of the page with the prefix are exactly those of the file in testdata.
func golden(t *testing.T, url, namePrefix, file string) {
	t.Helper()
	file = filepath.Join("testdata", file)
	if *update {
		time.Sleep(2 * time.Second) // for the stream to come to rest
		require.NoError(t, os.WriteFile(file, []byte(series(scrape(t, url), namePrefix)), 0o644))
		return
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	var got string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if got = series(scrape(t, url), namePrefix); got == string(want) {
			return
		}
	}
	require.Equal(t, string(want), got)
}
