// Package redact keeps the secrets of the process out of everything that it says. It knows them in two ways: by their value,
// once somebody has added them, and by the places in a text where a secret stands, such as the password of an address.
package redact

import (
	"cmp"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Mask stands for a secret.
const Mask = "!!!SECRET_SCRUBBED!!!"

// names are parts of the names of fields, variables and headers whose values are secret.
var names = regexp.MustCompile(`(?i)passw|passphrase|passwd|(^|_)pass(_|$)|(^|_)pwd?(_|$)|pgpass|secret|token|credential|` + //nolint:gochecknoglobals // compiled once, never changed
	`api[-_]?key|private[-_]?key|access[-_]?key|account[-_]?key|shared[-_]?key|authorization|cookie|(^|[-_])sas([-_]|$)|signature|client[-_]?key|^key_pem$|^dsn$`)

// Name reports whether a field, variable or header of this name holds a secret.
func Name(name string) bool { return names.MatchString(name) }

// places are the parts of a text that hold a secret, in group 2.
var places = []*regexp.Regexp{ //nolint:gochecknoglobals // compiled once, never changed
	// URL, scheme://user:password@host. The password may hold anything but white space and quotes: the last @ before the host ends it.
	regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://[^\s/:@"'<>]*:)([^\s"'<>]*)(@)`),
	// MySQL, user:password@tcp(host)/db.
	regexp.MustCompile(`([^\s:@/"'()]+:)([^\s"']+)(@(?:tcp|unix|tcp6|udp)?\()`),
	// key=value, and "key": value, bare or in quotes in which the quote is doubled or follows a backslash.
	regexp.MustCompile(`(?i)((?:[\w-]*(?:password|passwd|passphrase|secret|token|api[-_]?key|access[-_]?key|account[-_]?key|sig)|\bpwd|\bpass)"?\s*=\s*)('(?:[^'\\]|\\.|'')*'?|"(?:[^"\\]|\\.|"")*"?|[^\s'"]+)()`),
	regexp.MustCompile(`(?i)((?:[\w-]*(?:password|passwd|passphrase|secret|token|api[-_]?key|access[-_]?key|account[-_]?key)|\bpwd)"\s*:\s*)('(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"|[^\s'",{}\[\]]+)()`),
	regexp.MustCompile(`(?i)(\b(?:Bearer|Basic|ApiKey)\s+)([A-Za-z0-9._~+/=-]{4,})()`),
	regexp.MustCompile(`(?i)(\b(?:set-)?cookie"?\s*:\s*)([^\r\n]+)()`),
	regexp.MustCompile(`(-----BEGIN [A-Z ]*PRIVATE KEY-----)([^-]*)(-----END)`),
}

// shortest is how long a value must be to be masked wherever it appears. A shorter one would take ordinary words with it; it
// is masked where it stands in a place for secrets.
const shortest = 4

// ordinary are values that are as good as no secret, and whose masking would make every line unreadable.
func ordinary(v string) bool {
	switch strings.ToLower(v) {
	case "root", "test", "admin", "user", "guest", "postgres", "mysql", "mariadb", "redis", "kafka", "none", "null", "true", "false",
		"deltaforge", "default", "password", "secret", "token":
		return true
	}
	return false
}

// known are the secrets of the process.
var known struct { //nolint:gochecknoglobals // a process has one set of secrets, and everything that it says is checked against it
	mu       sync.Mutex
	values   map[string]bool // guarded by mu
	replacer atomic.Pointer[[]string]
}

// Add makes values secret, wherever they may appear from now on. It may be called from any goroutine. Values that are too
// short or too ordinary to be told from other words are left out.
func Add(values ...string) {
	known.mu.Lock()
	defer known.mu.Unlock()
	if known.values == nil {
		known.values = map[string]bool{}
	}
	changed := false
	for _, v := range values {
		for _, form := range forms(v) {
			if len(form) < shortest || ordinary(form) || known.values[form] {
				continue
			}
			known.values[form] = true
			changed = true
		}
	}
	if !changed {
		return
	}
	all := make([]string, 0, len(known.values))
	for v := range known.values {
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	known.replacer.Store(&all)
}

// forms are the ways in which a value is written: as it is, and as it is escaped in addresses.
func forms(v string) []string {
	v = strings.TrimSpace(v)
	return []string{v, url.QueryEscape(v), url.PathEscape(v), url.UserPassword("", v).String()[1:]}
}

// Text returns a text without the secrets in it.
func Text(s string) string {
	s = Values(s)
	for _, re := range places {
		if re.MatchString(s) {
			s = re.ReplaceAllString(s, "${1}"+Mask+"${3}")
		}
	}
	return s
}

// Values returns a text without the secrets that were added.
func Values(s string) string {
	all := known.replacer.Load()
	if all == nil {
		return s
	}
	for _, v := range *all {
		switch {
		case len(v) >= 2*shortest:
			s = Replace(s, v, Mask)
		case strings.Contains(s, v):
			s = replaceWhole(s, v)
		}
	}
	return s
}

// abbreviated is how much of a long value the YAML library shows in an error, and from which length on it does.
const abbreviated, abbreviatedFrom = 7, 11

// Replace replaces a value in a text, also where a YAML error shows its beginning only.
func Replace(s, v, by string) string {
	s = strings.ReplaceAll(s, v, by)
	if len(v) >= abbreviatedFrom {
		s = strings.ReplaceAll(s, "`"+v[:abbreviated]+"...`", by)
	}
	return s
}

// replaceWhole masks a value where it stands for itself: a short one inside a longer word is a part of that word.
func replaceWhole(s, v string) string {
	var b strings.Builder
	for {
		i := strings.Index(s, v)
		if i < 0 {
			b.WriteString(s)
			return b.String()
		}
		end := i + len(v)
		inside := (i > 0 && wordByte(s[i-1]) && wordByte(v[0])) || (end < len(s) && wordByte(s[end]) && wordByte(v[len(v)-1]))
		b.WriteString(s[:i])
		if inside {
			b.WriteString(v)
		} else {
			b.WriteString(Mask)
		}
		s = s[end:]
	}
}

func wordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// Passwords returns the passwords in an address or a DSN: the URL forms, the MySQL driver's form, and key=value.
func Passwords(text string) (found []string) {
	for _, re := range places {
		for _, m := range re.FindAllStringSubmatch(text, -1) {
			v := m[2]
			if n := len(v); n >= 2 && (v[0] == '\'' || v[0] == '"') && v[n-1] == v[0] {
				v = v[1 : n-1]
				v = strings.NewReplacer(`\\`, `\`, `\'`, `'`, `\"`, `"`, `''`, `'`).Replace(v)
			}
			found = append(found, v)
			if plain, err := url.PathUnescape(v); err == nil && plain != v {
				found = append(found, plain)
			}
		}
	}
	return found
}
