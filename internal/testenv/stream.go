package testenv

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	// The engine's own parts of a stream.
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
)

// Stream is a stream of the engine in this process, whose rows are counted and then forgotten.
type Stream struct {
	t      testing.TB
	stream *service.Stream
	ended  chan error
	rows   atomic.Int64

	mu  sync.Mutex
	log bytes.Buffer // guarded by mu
}

// Line is a line of a log, as far as operators see it at level info.
type Line struct{ Msg, Position string }

// RunStream runs an input, which the test's package registers, until Stop or the end of the test.
func RunStream(t testing.TB, input string) *Stream {
	t.Helper()
	s := &Stream{t: t, ended: make(chan error, 1)}
	b := service.NewStreamBuilder()
	b.SetLogger(slog.New(slog.NewJSONHandler(s, nil)))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(b.AddInputYAML(input))
	must(b.AddBatchConsumerFunc(func(_ context.Context, batch service.MessageBatch) error {
		s.rows.Add(int64(len(batch)))
		return nil
	}))
	var err error
	s.stream, err = b.Build()
	must(err)
	go func() { s.ended <- s.stream.Run(context.Background()) }()
	t.Cleanup(s.Stop)
	return s
}

// Write implements io.Writer, for the log.
func (s *Stream) Write(p []byte) (int, error) {
	_, _ = Said().Write(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(p)
}

// String is the log.
func (s *Stream) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// Rows is how many rows were delivered.
func (s *Stream) Rows() int { return int(s.rows.Load()) }

// Stop ends the stream. It may be called more than once, from the test's goroutine.
func (s *Stream) Stop() {
	s.t.Helper()
	if s.ended == nil {
		return
	}
	if err := s.stream.StopWithin(time.Minute); err != nil {
		s.t.Errorf("stopping a stream: %v", err)
	}
	<-s.ended
	s.ended = nil
}

// Lines returns what the stream has logged at level info and above, without the engine's own lines.
func (s *Stream) Lines() (lines []Line) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for text := range strings.Lines(s.log.String()) {
		var line Line
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			s.t.Fatalf("%v: %s", err, text)
		}
		engines := func(prefix string) bool { return strings.HasPrefix(line.Msg, prefix) }
		if !slices.ContainsFunc([]string{"Input type ", "Output type ", "Sending inproc messages to ID: "}, engines) {
			lines = append(lines, line)
		}
	}
	return lines
}
