// Package tablefilter says which tables of a server are captured, by patterns of their names.
package tablefilter

import (
	"slices"
	"strings"
)

// Rule is the lint rule of a list of table patterns: container.table, each half a name, * or a name with %. The engine applies it to the list
// and to each of its elements.
const Rule = `root = if this.type() == "string" && !this.re_match("^[^.]+\\.[^.]+$") { ` +
	`["want a table pattern such as a.b, a.*, a.prefix% or %.b, got " + this] }`

// Pattern matches tables by their names: container.table, where the container is a database or a schema. Each half is a name in which %
// stands for any characters.
type Pattern struct {
	Container, Table string
	text             string // as the configuration has it
}

// Parse reads a pattern of a configuration, where a half may also be a single *, which means %. It returns false for a text that
// is not a pattern.
func Parse(text string) (Pattern, bool) {
	container, table, ok := strings.Cut(text, ".")
	if !ok || container == "" || table == "" {
		return Pattern{}, false
	}
	p := Pattern{container, table, text}
	for _, half := range []*string{&p.Container, &p.Table} {
		if *half == "*" {
			*half = "%"
		}
	}
	return p, true
}

// String returns the pattern as the configuration has it.
func (p Pattern) String() string {
	if p.text != "" {
		return p.text
	}
	return p.Container + "." + p.Table
}

// Exact reports that the pattern names one table.
func (p Pattern) Exact() bool { return !strings.Contains(p.Container+p.Table, "%") }

// Match reports whether the pattern matches a table.
func (p Pattern) Match(container, table string) bool {
	return MatchName(p.Container, container) && MatchName(p.Table, table)
}

// folded returns the pattern in lower case.
func (p Pattern) folded() Pattern {
	return Pattern{strings.ToLower(p.Container), strings.ToLower(p.Table), p.text}
}

// Filter says which tables are captured: those that match an Include pattern and no Exclude pattern. Without Include patterns, every
// table is included.
type Filter struct {
	Include, Exclude []Pattern
	// Fold says that the server compares names without case and reports them in lower case.
	Fold bool
	// System reports whether a container is one of the server's own. The tables of such a container are captured only if SystemNamed is
	// set and an Include pattern names the container in full.
	System      func(container string) bool
	SystemNamed bool
}

// Match reports whether a table is captured.
func (f *Filter) Match(container, table string) bool {
	if f.Fold {
		container, table = strings.ToLower(container), strings.ToLower(table)
	}
	match := func(p Pattern) bool {
		if f.Fold {
			p = p.folded()
		}
		return p.Match(container, table)
	}
	return f.included(container, match) && !slices.ContainsFunc(f.Exclude, match)
}

// MatchIn reports whether tables of a container may be captured.
func (f *Filter) MatchIn(container string) bool {
	if f.Fold {
		container = strings.ToLower(container)
	}
	return f.included(container, func(p Pattern) bool {
		if f.Fold {
			p = p.folded()
		}
		return MatchName(p.Container, container)
	})
}

// included reports whether an Include pattern matches, or there is none.
func (f *Filter) included(container string, match func(Pattern) bool) bool {
	system := f.System != nil && f.System(container)
	if len(f.Include) == 0 {
		return !system
	}
	return (!system || f.SystemNamed) && slices.ContainsFunc(f.Include, func(p Pattern) bool {
		named := p.Container == container || f.Fold && strings.EqualFold(p.Container, container)
		return match(p) && (!system || named)
	})
}

// MatchName reports whether a name matches one half of a pattern.
func MatchName(pattern, name string) bool {
	parts := strings.Split(pattern, "%")
	first, rest := parts[0], parts[1:]
	if len(rest) == 0 {
		return name == first
	}
	if !strings.HasPrefix(name, first) {
		return false
	}
	name = name[len(first):]
	for _, part := range rest[:len(rest)-1] {
		i := strings.Index(name, part)
		if i < 0 {
			return false
		}
		name = name[i+len(part):]
	}
	return strings.HasSuffix(name, rest[len(rest)-1])
}
