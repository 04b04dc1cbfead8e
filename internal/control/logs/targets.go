package logs

import (
	"cmp"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
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

// ParseLevel reads the level of a configuration or a flag: a level, or directives as ParseLevels takes them. A single word that is no
// level is an error here and not a target: it is a level that was mistyped, and everything else would be silent.
func ParseLevel(text string) (Levels, error) {
	if _, err := parseLevel(strings.TrimSpace(text)); err != nil && !strings.ContainsAny(text, "=,.") {
		return Levels{}, fmt.Errorf("%w: want off, error, warn, info, debug or trace, or levels by target such as warn,input.orders=debug", err)
	}
	return ParseLevels(text)
}

func parseLevel(s string) (slog.Level, error) {
	switch strings.ToLower(s) {
	case "off", "none":
		return levelOff, nil
	case "fatal":
		return slog.LevelError + 1, nil
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
