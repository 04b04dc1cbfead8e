package control

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"time"
)

// levelOff is above every level.
const levelOff = slog.Level(math.MaxInt32)

// Levels are log levels by target, as DELTAFORGE_LOG gives them.
type Levels struct {
	all     slog.Level
	targets []targetLevel // longest target first, so that the most specific one wins
}

type targetLevel struct {
	target string
	level  slog.Level
}

// ParseLevels reads directives such as "warn,input.orders=debug,output=error": a level for everything, and levels for
// targets. A target without a level gets all of its lines. Without a level for everything it is error, as with RUST_LOG.
func ParseLevels(directives string) (Levels, error) {
	l := Levels{all: slog.LevelError}
	for d := range strings.SplitSeq(directives, ",") {
		if d = strings.TrimSpace(d); d == "" {
			continue
		}
		target, name, assigned := strings.Cut(d, "=")
		if !assigned {
			if level, err := parseLevel(target); err == nil {
				l.all = level
				continue
			}
			name = "trace"
		}
		target = strings.ReplaceAll(strings.TrimSpace(target), "::", ".")
		level, err := parseLevel(strings.TrimSpace(name))
		if err != nil || target == "" || strings.ContainsAny(target, " \t[]{}\"'=/") {
			return Levels{}, fmt.Errorf("log directive %q: want a level (off, error, warn, info, debug, trace) or target=level, "+
				"such as warn,input.orders=debug", d)
		}
		l.targets = append(l.targets, targetLevel{target, level})
	}
	slices.SortStableFunc(l.targets, func(a, b targetLevel) int { return cmp.Compare(len(b.target), len(a.target)) })
	return l, nil
}

func parseLevel(s string) (slog.Level, error) {
	switch strings.ToLower(s) {
	case "off", "none":
		return levelOff, nil
	case "error":
		return slog.LevelError, nil
	case "warn", "warning":
		return slog.LevelWarn, nil
	case "info":
		return slog.LevelInfo, nil
	case "debug", "trace", "all": // the engine hands its trace lines on as debug
		return slog.LevelDebug, nil
	}
	return 0, fmt.Errorf("unknown level %q", s)
}

// of returns the level of lines that go by any of the names.
func (l Levels) of(names []string) slog.Level {
	for _, t := range l.targets {
		for _, name := range names {
			if name == t.target || strings.HasPrefix(name, t.target+".") {
				return t.level
			}
		}
	}
	return l.all
}

// LogFormat is how lines are written, from the logger section of the configuration.
type LogFormat struct {
	Text              bool // logfmt; else JSON
	Time              bool
	TimeKey, LevelKey string
	MessageKey        string
	Static            map[string]string
	Out               io.Writer
}

// TargetLog writes the engine's log with levels by target, which the engine's own writer does not have. What is logged
// before SetFormat waits for it.
type TargetLog struct {
	levels Levels

	mu      sync.Mutex
	handler slog.Handler  // nil until SetFormat; guarded by mu
	pending []slog.Record // guarded by mu
	off     bool          // guarded by mu
}

// NewTargetLog returns a log with the levels.
func NewTargetLog(l Levels) *TargetLog { return &TargetLog{levels: l} }

// Logger returns the logger to hand to the engine.
func (t *TargetLog) Logger() *slog.Logger {
	return slog.New(&targetHandler{log: t, min: t.levels.of(nil)})
}

// Disable makes the log write nothing: somebody else does.
func (t *TargetLog) Disable() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.off, t.pending = true, nil
}

// SetFormat says how and where to write, and writes what has waited.
func (t *TargetLog) SetFormat(f LogFormat) {
	t.mu.Lock()
	defer t.mu.Unlock()
	options := &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
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
	t.handler = t.handler.WithAttrs(static)
	for _, r := range t.pending {
		_ = t.handler.Handle(context.Background(), r) // slog wants a context, and its own handlers use none
	}
	t.pending = nil
}

// Flush writes what still waits, as JSON to w: the process ends before its configuration was read.
func (t *TargetLog) Flush(w io.Writer) {
	t.mu.Lock()
	waiting := t.handler == nil && !t.off && len(t.pending) > 0
	t.mu.Unlock()
	if waiting {
		t.SetFormat(LogFormat{Time: true, Out: w})
	}
}

// attr gives the built-in attributes the names and forms of the engine's log.
func (f LogFormat) attr(a slog.Attr) slog.Attr {
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

func (t *TargetLog) write(ctx context.Context, r slog.Record) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.off:
		return nil
	case t.handler == nil:
		t.pending = append(t.pending, r)
		return nil
	}
	return t.handler.Handle(ctx, r)
}

// targetHandler is one branch of the log, as each component has one.
type targetHandler struct {
	log   *TargetLog
	attrs []slog.Attr
	min   slog.Level
}

// Enabled implements slog.Handler.
func (h *targetHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.min }

// Handle implements slog.Handler.
func (h *targetHandler) Handle(ctx context.Context, r slog.Record) error {
	line := slog.NewRecord(r.Time, r.Level, r.Message, 0)
	line.AddAttrs(h.attrs...)
	r.Attrs(func(a slog.Attr) bool { line.AddAttrs(a); return true })
	return h.log.write(ctx, line)
}

// WithAttrs implements slog.Handler. A later attribute of the same name replaces the earlier one.
func (h *targetHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := &targetHandler{log: h.log, attrs: slices.Clone(h.attrs)}
	for _, a := range attrs {
		next.attrs = slices.DeleteFunc(next.attrs, func(b slog.Attr) bool { return b.Key == a.Key })
		next.attrs = append(next.attrs, a)
		if a.Key == "stream" {
			next.attrs = append(next.attrs, slog.Attr{Key: "pipeline", Value: a.Value})
		}
	}
	next.min = h.log.levels.of(names(next.attrs))
	return next
}

// WithGroup implements slog.Handler; the engine has no groups.
func (h *targetHandler) WithGroup(string) slog.Handler { return h }

// names are what the lines of a component go by: its target, its path (input.broker.inputs.0), its kind with its label
// (output.orders_kafka), and its kind with the name of its source or sink.
func names(attrs []slog.Attr) []string {
	var path, label string
	var all []string
	for _, a := range attrs {
		switch a.Key {
		case "path":
			path = strings.TrimPrefix(strings.TrimPrefix(a.Value.String(), "root."), "pipeline.")
		case "label":
			label = a.Value.String()
		case "target":
			all = append(all, a.Value.String())
		case "source":
			all = append(all, "input."+a.Value.String())
		case "sink":
			all = append(all, "output."+a.Value.String())
		}
	}
	if path != "" {
		all = append(all, path)
	}
	if label != "" {
		kind, _, _ := strings.Cut(path, ".")
		kind = strings.TrimSuffix(strings.TrimSuffix(kind, "_resources"), "s") // processors.0: processor
		all = append(all, strings.TrimPrefix(kind+"."+label, "."))
	}
	return all
}
