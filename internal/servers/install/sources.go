package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// aptSource is where the system gets its own packages from, so that the private installation uses the same mirror and trusts
// the same key.
type aptSource struct {
	uri      string
	signedBy string // empty: apt's trusted keys
}

// forSuite returns a deb822 source for the main component of another suite of the same archive.
func (s aptSource) forSuite(suite string) string {
	text := fmt.Sprintf("Types: deb\nURIs: %s\nSuites: %s\nComponents: main\n", s.uri, suite)
	if s.signedBy != "" {
		text += "Signed-By: " + s.signedBy + "\n"
	}
	return text
}

// systemSource finds the Debian archive in the system's apt sources: the first whose suite is the release itself, which
// the archives of updates and of third parties are not.
func systemSource() (aptSource, error) {
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return aptSource{}, err
	}
	codename := osReleaseField(string(release), "VERSION_CODENAME")
	if osReleaseField(string(release), "ID") != "debian" || codename == "" {
		return aptSource{}, errors.New("this system is not a Debian release: install a MySQL server 8.0 or newer, so that mysqld is in PATH")
	}
	parts, err := filepath.Glob("/etc/apt/sources.list.d/*")
	if err != nil {
		return aptSource{}, err
	}
	for _, path := range append(parts, "/etc/apt/sources.list") {
		content, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return aptSource{}, err
		}
		var source aptSource
		var ok bool
		switch {
		case strings.HasSuffix(path, ".sources"):
			source, ok = parseDeb822(string(content), codename)
		case strings.HasSuffix(path, ".list"):
			source, ok = parseList(string(content), codename)
		}
		if ok {
			return source, nil
		}
	}
	return aptSource{}, fmt.Errorf("no source of the suite %s in /etc/apt", codename)
}

func osReleaseField(content, name string) string {
	for line := range strings.Lines(content) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+"="); ok {
			return strings.Trim(value, `"`)
		}
	}
	return ""
}

// parseDeb822 reads the format of sources.list(5) that has one field on a line and an empty line between sources.
func parseDeb822(content, codename string) (aptSource, bool) {
	for stanza := range strings.SplitSeq(content, "\n\n") {
		fields := map[string]string{}
		last := ""
		for line := range strings.Lines(stanza) {
			line = strings.TrimRight(line, "\n")
			if strings.HasPrefix(line, "#") {
				continue
			}
			if strings.HasPrefix(line, " ") { // continuation, as in an embedded key
				fields[last] += "\n" + line
				continue
			}
			name, value, _ := strings.Cut(line, ":")
			last = strings.ToLower(strings.TrimSpace(name))
			fields[last] = strings.TrimSpace(value)
		}
		uris := strings.Fields(fields["uris"])
		if fields["enabled"] == "no" || len(uris) == 0 ||
			!slices.Contains(strings.Fields(fields["types"]), "deb") ||
			!slices.Contains(strings.Fields(fields["suites"]), codename) ||
			!slices.Contains(strings.Fields(fields["components"]), "main") {
			continue
		}
		return aptSource{uri: uris[0], signedBy: fields["signed-by"]}, true
	}
	return aptSource{}, false
}

// parseList reads the format with one source on a line: deb [option=value ...] uri suite component...
func parseList(content, codename string) (aptSource, bool) {
	for line := range strings.Lines(content) {
		line, _, _ = strings.Cut(line, "#")
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb ")
		if !ok {
			continue
		}
		rest = strings.TrimSpace(rest)
		var source aptSource
		if options, after, ok := strings.Cut(strings.TrimPrefix(rest, "["), "]"); ok && strings.HasPrefix(rest, "[") {
			for option := range strings.FieldsSeq(options) {
				if key, ok := strings.CutPrefix(option, "signed-by="); ok {
					source.signedBy = key
				}
			}
			rest = after
		}
		fields := strings.Fields(rest)
		if len(fields) < 3 || fields[1] != codename || !slices.Contains(fields[2:], "main") {
			continue
		}
		source.uri = fields[0]
		return source, true
	}
	return aptSource{}, false
}
