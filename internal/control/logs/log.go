// Package logs writes the log of the process: levels by target, and the fields that the engine does not know.
package logs

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/deltaforge/deltaforge/internal/control/document"
	"github.com/deltaforge/deltaforge/internal/redact"
)

// Format is how lines are written, from the logger section of the configuration, and what they say that only the whole
// process knows.
type Format struct {
	Text              bool // logfmt; else JSON
	Time              bool
	TimeKey, LevelKey string
	MessageKey        string
	Static            map[string]string
	Out               io.Writer

	// Sources knows what the inputs are called; nil: by label or path.
	Sources *document.SourceNames
	// Pipeline names the pipeline of the lines of components that belong to no stream; empty: none.
	Pipeline string
	// Tenant returns the tenant of a pipeline; nil: lines do not name one.
	Tenant func(pipeline string) string
}

// Log writes the engine's log: with levels by target, and with the fields pipeline, tenant, source and sink, neither of
// which the engine's own writer has. What is logged before SetFormat waits for it.
type Log struct {
	levels atomic.Pointer[Levels] // nil until SetLevels

	mu      sync.Mutex
	handler slog.Handler // nil until SetFormat; guarded by mu
	format  Format       // guarded by mu
	pending []waiting    // guarded by mu
}

// waiting is a line that nobody knows yet how to write.
type waiting struct {
	of   *targetHandler
	line slog.Record
}

// New returns a log that keeps every line until it gets levels and a format.
func New() *Log { return &Log{} }

// SetLevels says what to write.
func (t *Log) SetLevels(l Levels) { t.levels.Store(&l) }

// HasLevels reports whether SetLevels was called.
func (t *Log) HasLevels() bool { return t.levels.Load() != nil }

// Logger returns the logger to hand to the engine.
func (t *Log) Logger() *slog.Logger { return slog.New(newHandler(t, nil)) }

// SetFormat says how and where to write, and writes what has waited. It is called after SetLevels.
func (t *Log) SetFormat(f Format) {
	t.mu.Lock()
	defer t.mu.Unlock()
	options := &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		return f.attr(a)
	}}
	if f.Text {
		t.handler = slog.NewTextHandler(f.Out, options)
	} else {
		t.handler = slog.NewJSONHandler(f.Out, options)
	}
	static := make([]slog.Attr, 0, len(f.Static))
	for key, value := range f.Static {
		static = append(static, slog.String(key, value))
	}
	slices.SortFunc(static, func(a, b slog.Attr) int { return cmp.Compare(a.Key, b.Key) })
	t.handler, t.format = t.handler.WithAttrs(static), f
	for _, w := range t.pending {
		if w.line.Level >= w.of.min() {
			// slog wants a context, and its own handlers use none.
			_ = t.handler.Handle(context.Background(), w.of.complete(w.line, &f))
		}
	}
	t.pending = nil
}

// Flush writes what still waits, as JSON to w: the process ends before its configuration was read.
func (t *Log) Flush(w io.Writer) {
	t.mu.Lock()
	waits := t.handler == nil && len(t.pending) > 0
	t.mu.Unlock()
	if !waits {
		return
	}
	if !t.HasLevels() {
		t.SetLevels(Levels{all: slog.LevelInfo})
	}
	t.SetFormat(Format{Time: true, Out: w})
}

// attr gives the built-in attributes the names and forms of the engine's log.
func (f Format) attr(a slog.Attr) slog.Attr {
	switch a.Key {
	case slog.TimeKey:
		if !f.Time {
			return slog.Attr{}
		}
		if a.Value.Kind() == slog.KindTime {
			return slog.String(cmp.Or(f.TimeKey, "time"), a.Value.Time().Format(time.RFC3339))
		}
	case slog.LevelKey:
		if level, ok := a.Value.Any().(slog.Level); ok {
			name := strings.ToLower(level.String())
			if level == slog.LevelWarn {
				name = "warning"
			}
			return slog.String(cmp.Or(f.LevelKey, "level"), name)
		}
	case slog.MessageKey:
		return slog.String(cmp.Or(f.MessageKey, "msg"), strings.TrimSuffix(a.Value.String(), "\n"))
	}
	return a
}

func (t *Log) write(ctx context.Context, h *targetHandler, r slog.Record) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.handler == nil {
		t.pending = append(t.pending, waiting{h, r.Clone()})
		return nil
	}
	return t.handler.Handle(ctx, h.complete(r, &t.format))
}

// targetHandler is one branch of the log, as each component has one.
type targetHandler struct {
	log   *Log
	attrs []slog.Attr
	min   func() slog.Level // called when the log has levels
}

func newHandler(log *Log, attrs []slog.Attr) *targetHandler {
	return &targetHandler{log: log, attrs: attrs, min: sync.OnceValue(func() slog.Level { return log.levels.Load().of(names(attrs)) })}
}

// Enabled implements slog.Handler.
func (h *targetHandler) Enabled(_ context.Context, level slog.Level) bool {
	return !h.log.HasLevels() || level >= h.min()
}

// Handle implements slog.Handler.
func (h *targetHandler) Handle(ctx context.Context, r slog.Record) error {
	return h.log.write(ctx, h, r)
}

// The fields of a line that say what it is about.
const (
	fieldPipeline = "pipeline"
	fieldTenant   = "tenant"
	fieldSource   = "source"
	fieldSink     = "sink"
	fieldError    = "error"
)

// complete returns the line with all of its fields, and without secrets: a foreign component may log an address as it is.
func (h *targetHandler) complete(r slog.Record, f *Format) slog.Record {
	line := slog.NewRecord(r.Time, r.Level, redact.Text(r.Message), 0)
	attrs := h.attrs
	r.Attrs(func(a slog.Attr) bool { attrs = with(attrs, a); return true })
	path, label, component := place(attrs)
	if component && document.KindOf(path) == "input" {
		attrs = sameSource(attrs, cmp.Or(f.Sources.Of(textOf(attrs, fieldPipeline), path), label, path))
	}
	value := map[string]string{}
	for _, a := range attrs {
		value[a.Key] = a.Value.String()
	}
	add := func(field, text string) {
		if _, there := value[field]; !there && text != "" {
			value[field] = text
			line.AddAttrs(slog.String(field, text))
		}
	}
	if component {
		add(fieldPipeline, f.Pipeline)
	}
	if f.Tenant != nil && (component || value[fieldPipeline] != "") {
		add(fieldTenant, f.Tenant(value[fieldPipeline]))
	}
	if document.KindOf(path) == "output" {
		add(fieldSink, cmp.Or(label, path))
	}
	if component {
		add(fieldError, causeOf(line.Message))
	}
	for _, a := range attrs {
		line.AddAttrs(withoutSecrets(a))
	}
	return line
}

// causeOf returns the error that the engine has put into a text, "Failed to connect to x: the error"; empty: there is none.
func causeOf(text string) string {
	_, cause, found := strings.Cut(text, ": ")
	if !found || !strings.HasPrefix(text, "Failed to ") {
		return ""
	}
	return strings.TrimSuffix(cause, "\n")
}

func withoutSecrets(a slog.Attr) slog.Attr {
	switch v := a.Value.Any().(type) {
	case string:
		return slog.String(a.Key, redact.Text(v))
	case error:
		return slog.String(a.Key, redact.Text(v.Error()))
	case fmt.Stringer:
		return slog.String(a.Key, redact.Text(v.String()))
	}
	return a
}

// textOf returns the text of an attribute.
func textOf(attrs []slog.Attr, key string) string {
	for _, a := range attrs {
		if a.Key == key {
			return a.Value.String()
		}
	}
	return ""
}

// sameSource makes the lines of an input and those of the engine about it call it the same, and as the metrics page does. Where the
// configuration is not known, an input of ours knows its name, which is kept.
func sameSource(attrs []slog.Attr, source string) []slog.Attr {
	for _, a := range attrs {
		if a.Key == fieldSource && a.Value.String() != source {
			attrs = with(attrs, slog.String("name", a.Value.String()))
		}
	}
	return with(attrs, slog.String(fieldSource, source))
}

// with returns the attributes and one more, which replaces one of the same name.
func with(attrs []slog.Attr, a slog.Attr) []slog.Attr {
	if a.Key == "stream" {
		a.Key = fieldPipeline // the engine's word
	}
	next := make([]slog.Attr, 0, len(attrs)+1)
	for _, b := range attrs {
		if b.Key != a.Key {
			next = append(next, b)
		}
	}
	return append(next, a)
}

// WithAttrs implements slog.Handler. A later attribute of the same name replaces the earlier one.
func (h *targetHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := h.attrs
	for _, a := range attrs {
		next = with(next, a)
	}
	return newHandler(h.log, next)
}

// WithGroup implements slog.Handler; the engine has no groups.
func (h *targetHandler) WithGroup(string) slog.Handler { return h }

// place returns the path and the label of the component that a line is from, if it is from one.
func place(attrs []slog.Attr) (path, label string, component bool) {
	for _, a := range attrs {
		switch a.Key {
		case "path":
			path = a.Value.String()
		case "label":
			label = a.Value.String()
		}
	}
	if !strings.HasPrefix(path, "root.") || document.KindOf(path) == "" { // the path of a file
		return "", "", false
	}
	return path, label, true
}

// names are what the lines of a component go by: its target, its path (input.broker.inputs.0), its kind with its label
// (output.orders_kafka), and its kind with the name of its source or sink.
func names(attrs []slog.Attr) []string {
	path, label, _ := place(attrs)
	path = strings.TrimPrefix(strings.TrimPrefix(path, "root."), "pipeline.")
	var all []string
	for _, a := range attrs {
		switch a.Key {
		case "target":
			all = append(all, a.Value.String())
		case fieldSource:
			all = append(all, "input."+a.Value.String())
		case fieldSink:
			all = append(all, "output."+a.Value.String())
		}
	}
	if path != "" {
		all = append(all, path)
	}
	if label != "" {
		all = append(all, strings.TrimPrefix(document.KindOf(path)+"."+label, "."))
	}
	return all
}
