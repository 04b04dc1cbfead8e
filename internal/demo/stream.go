package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/version"
)

// streamYAML is the pipeline as a file that `deltaforge run` takes.
func streamYAML(d *database, kafka, checkpoints, metrics string) string {
	return fmt.Sprintf(`input:
  %s:
    name: %s
    dsn: %s
    tables:
      include: [ %s ]
    metadata: [ database, schema_name, table, operation ]
    checkpoint:
      path: %s

output:
  deltaforge_kafka:
    seed_brokers: [ %s ]
    topic_prefix: %s

metrics:
  deltaforge:
    address: %s
    pipeline: demo
`, d.component, shopName, quote(d.dsn), strings.Join(d.tables, ", "), quote(checkpoints), quote(kafka), shopName, quote(metrics))
}

// quote makes any text a YAML string.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// buildStream makes the stream that runs in this process. It logs to log.
func buildStream(yaml string, log io.Writer) (*service.Stream, error) {
	builder := service.NewStreamBuilder()
	// The demo's own logger, and no second HTTP server: the file need not say so.
	builder.SetLogger(slog.New(slog.NewTextHandler(log, nil)))
	builder.SetHTTPMux(http.NewServeMux())
	builder.SetEngineVersion(version.String())
	builder.SetThreads(1)
	if err := builder.SetYAML(yaml); err != nil {
		return nil, fmt.Errorf("reading the stream's YAML: %w", err)
	}
	stream, err := builder.Build()
	if err != nil {
		return nil, fmt.Errorf("building the stream: %w", err)
	}
	return stream, nil
}

// metricsAddress returns the address to serve metrics on: the wanted one, or one with a free port when another process has
// it.
func metricsAddress(ctx context.Context, wanted string) (address string, err error) {
	host, _, err := net.SplitHostPort(wanted)
	if err != nil {
		return "", fmt.Errorf("the address for metrics: %w; it wants host:port", err)
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", wanted)
	if errors.Is(err, syscall.EADDRINUSE) {
		listener, err = listen.Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	}
	if err != nil {
		return "", fmt.Errorf("finding an address for metrics: %w", err)
	}
	return listener.Addr().String(), listener.Close()
}

// page is the metrics page, as an operator's Prometheus would read it.
type page struct {
	client http.Client
	url    string
}

func newPage(address string) *page {
	return &page{client: http.Client{Timeout: 2 * time.Second}, url: "http://" + address + "/metrics"}
}

// The series that the demo shows.
const (
	seriesLag       = "deltaforge_source_lag_seconds"
	seriesDelivered = "deltaforge_sink_events_total"
)

// read returns the values of the page by series, added up over labels. Histograms are left out.
func (p *page) read(ctx context.Context) (map[string]float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
	if err != nil {
		return nil, err
	}
	response, err := p.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("reading the metrics page: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("reading the metrics page: %s", response.Status)
	}
	return parseMetrics(response.Body)
}

func (p *page) close() { p.client.CloseIdleConnections() }

// parseMetrics reads Prometheus' text format: `name{labels} value`.
func parseMetrics(text io.Reader) (map[string]float64, error) {
	values := map[string]float64{}
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		if at < 0 {
			return nil, fmt.Errorf("the metrics page has the line %q", line)
		}
		value, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("the metrics page has the line %q: %w", line, err)
		}
		name, _, _ := strings.Cut(line[:at], "{")
		values[name] += value
	}
	return values, lines.Err()
}
