package metrics

import "strings"

// enginePrefix, after prefix, marks a stat that has no row.
const enginePrefix = "engine_"

// engineName turns the name of a stat without a row into a series name, without prefix, that follows the Prometheus
// conventions: snake case, base units, the suffix _total on counters only. scale converts a value of the stat to the
// unit of the name. A timing is in nanoseconds, by contract of the engine, whatever its name says.
func engineName(stat string, k kind) (name string, scale float64) {
	words := strings.FieldsFunc(snakeCase(stat), func(r rune) bool { return r == '_' })
	words = trimSuffixes(words, k)
	scale = 1
	if len(words) > 1 || k == timerKind {
		words, scale = baseUnit(words)
	}
	if k == timerKind {
		if len(words) == 0 || words[len(words)-1] != "seconds" {
			words = append(words, "seconds")
		}
		scale = latencyBuckets.scale()
	}
	if len(words) == 0 {
		words = []string{"unnamed"}
	}
	if k == counterKind {
		words = append(words, "total")
	}
	return enginePrefix + strings.Join(words, "_"), scale
}

// trimSuffixes removes endings that Prometheus reserves, and the name of the type wherever it stands.
func trimSuffixes(words []string, k kind) []string {
	kept := words[:0:0]
	for _, w := range words {
		if w != k.String() {
			kept = append(kept, w)
		}
	}
	for len(kept) > 1 {
		switch kept[len(kept)-1] {
		case "total", "count", "sum", "bucket":
			kept = kept[:len(kept)-1]
			continue
		}
		break
	}
	return kept
}

// baseUnit replaces a time unit at the end by seconds.
func baseUnit(words []string) (converted []string, scale float64) {
	if len(words) == 0 {
		return words, 1
	}
	last := len(words) - 1
	switch words[last] {
	case "ns", "nanos", "nanoseconds":
		scale = 1e-9
	case "us", "micros", "microseconds":
		scale = 1e-6
	case "ms", "millis", "milliseconds":
		scale = 1e-3
	case "s", "sec", "secs", "seconds":
		scale = 1
	case "minutes":
		scale = 60
	case "hours":
		scale = 3600
	default:
		return words, 1
	}
	return append(words[:last:last], "seconds"), scale
}

// snakeCase lowers letters, puts an underscore where a capital follows a small letter or digit, and replaces every
// character that a metric or label name must not have by an underscore.
func snakeCase(s string) string {
	var b strings.Builder
	var prev byte
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'A' && c <= 'Z':
			if prev >= 'a' && prev <= 'z' || prev >= '0' && prev <= '9' {
				b.WriteByte('_')
			}
			b.WriteByte(c - 'A' + 'a')
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			b.WriteByte(c)
		default:
			b.WriteByte('_')
		}
		prev = c
	}
	return b.String()
}

// labelName makes a label name that Prometheus accepts out of one that metrics.mapping made up.
func labelName(s string) string {
	name := strings.TrimLeft(snakeCase(s), "_")
	switch {
	case name == "" || name[0] >= '0' && name[0] <= '9':
		return "label_" + name
	case name == "le" || name == "quantile":
		return name + "_label"
	}
	return name
}
