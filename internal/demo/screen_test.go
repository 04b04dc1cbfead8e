package demo

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func aStatus() *status {
	lag, delivered := 0.25, 1233.0
	return &status{
		elapsed: 75 * time.Second, written: tally{{"orders", opInsert}: 1234, {"orders", opDelete}: 1},
		received:  tally{{"orders", opInsert}: 1233},
		writeRate: 300.4, getRate: 299, lag: &lag, delivered: &delivered, position: "0/1A2B3C8",
	}
}

func TestPlainOutputIsOneLineASecond(t *testing.T) {
	var out bytes.Buffer
	s := &screen{out: &out}
	s.show(aStatus())
	s.printf("%s\n", s.style(red, "text"))
	s.show(&status{})
	assert.Equal(t, "1:15  written 1,235 (300/s)  delivered 1,233 (299/s)  lag 0.2 s  position 0/1A2B3C8\n"+
		"text\n"+
		"0:00  written 0 (0/s)  delivered 0 (0/s)  lag -  position -\n", out.String())
}

func TestTerminalRefreshesInPlace(t *testing.T) {
	var out bytes.Buffer
	s := &screen{out: &out, terminal: true}
	s.show(aStatus())
	first := out.String()
	assert.Equal(t, s.height, strings.Count(first, "\n"), "the cursor has to go up as far as the status has gone down")
	assert.True(t, strings.HasPrefix(first, wrapOff))
	assert.True(t, strings.HasSuffix(first, wrapOn), "a user's terminal is left as it was")
	for _, text := range []string{"1:15", "1,234", "1,233", "0.2 s", "0/1A2B3C8"} {
		assert.Contains(t, first, text)
	}

	out.Reset()
	s.show(aStatus())
	assert.Equal(t, "\r\x1b[7A\x1b[J"+first, out.String())

	out.Reset()
	s.printf("an event\n")
	s.printf("more\n")
	s.show(aStatus())
	assert.Equal(t, "\r\x1b[7A\x1b[Jan event\nmore\n"+first, out.String(), "text goes above")

	out.Reset()
	s.endStatus()
	s.printf("summary\n")
	assert.Equal(t, "summary\n", out.String(), "the last status stays")
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestScreenKeepsItsFirstError(t *testing.T) {
	s := &screen{out: brokenPipe{}}
	s.printf("x")
	assert.ErrorContains(t, s.finish(), "broken pipe")
}

func TestParseMetrics(t *testing.T) {
	values, err := parseMetrics(strings.NewReader(`# HELP deltaforge_sink_events_total Events.
# TYPE deltaforge_sink_events_total counter
deltaforge_sink_events_total{pipeline="a",sink="x y"} 12
deltaforge_sink_events_total{pipeline="b",sink="z"} 30
deltaforge_source_lag_seconds 1.5e-3
`))
	require.NoError(t, err)
	assert.Equal(t, map[string]float64{seriesDelivered: 42, seriesLag: 0.0015}, values)
	for _, bad := range []string{"x", "x y", "x{a=\"b\"}"} {
		_, err := parseMetrics(strings.NewReader(bad))
		assert.Error(t, err, bad)
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		assert.Equal(t, want, thousands(n))
	}
}
