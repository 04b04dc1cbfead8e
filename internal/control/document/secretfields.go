package document

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/deltaforge/deltaforge/internal/redact"
)

// bareField is a field with nothing but a reference to an environment variable, not in quotes.
var bareField = regexp.MustCompile(`(?m)^([ \t]*(?:- +)?["']?([\w.-]+)["']?[ \t]*:[ \t]+)(\$\{([0-9A-Za-z_.]+)(?::([^}\n]*))?\})([ \t]*(?:[ \t]#.*)?\r?)$`)

// SecretReferences adds the environment variables that stand bare in the secret fields of a configuration to bare, and those
// that stand anywhere else to elsewhere. The engine puts values into the text of a configuration before it reads that: of
// `password: ${X}` without quotes, the password 0123 becomes a number, and of "a #b" the end is a comment.
func SecretReferences(config []byte, bare, elsewhere map[string]bool) {
	total, secret := map[string]int{}, map[string]int{}
	for _, m := range envReference.FindAllSubmatch(config, -1) {
		total[string(m[1])]++
	}
	for _, m := range bareField.FindAllSubmatch(config, -1) {
		if redact.Name(string(m[2])) {
			secret[string(m[4])]++
		}
	}
	for name, n := range total {
		if secret[name] > 0 {
			bare[name] = true
		}
		if secret[name] < n {
			elsewhere[name] = true
		}
	}
}

// QuoteSecrets returns a configuration in which the values of environment variables stand, in quotes, where a secret field has a
// bare reference.
func QuoteSecrets(config []byte) []byte {
	return bareField.ReplaceAllFunc(config, func(line []byte) []byte {
		m := bareField.FindSubmatch(line)
		value, found := os.LookupEnv(string(m[4]))
		if !redact.Name(string(m[2])) || !found && m[5] == nil {
			return line
		}
		if value == "" {
			value = string(m[5])
		}
		redact.Add(value)
		return slices.Concat(m[1], Quote(value), m[6])
	})
}

// Quote returns a value as a string of YAML in which the engine sees no reference.
func Quote(value string) []byte {
	text, err := json.Marshal(value)
	if err != nil { // a string always marshals
		return []byte(`""`)
	}
	return bytes.ReplaceAll(text, []byte("$"), []byte(`\u0024`))
}

// CheckSecrets refuses a configuration in which a password is a number or a truth value to a YAML parser: what that makes of 0123
// or of 1e3 is not what was written. The error does not hold the value.
func CheckSecrets(config []byte) error {
	var doc yaml.Node
	if yaml.Unmarshal(config, &doc) != nil {
		return nil //nolint:nilerr // whoever reads it says so
	}
	return checkSecrets(&doc, nil)
}

func checkSecrets(n *yaml.Node, at []string) error {
	for i, c := range n.Content {
		inside := at
		if n.Kind == yaml.MappingNode {
			if i%2 == 0 {
				continue
			}
			name := n.Content[i-1].Value
			inside = append(slices.Clip(at), name)
			if tag := c.ShortTag(); c.Kind == yaml.ScalarNode && passwordName.MatchString(name) && tag != "!!str" && tag != "!!null" {
				return fmt.Errorf("line %d: field %s: YAML takes what stands there for a value of type %s, not for text; put it in quotes: %s: \"...\"",
					c.Line, strings.Join(inside, "."), strings.TrimPrefix(tag, "!!"), name)
			}
		}
		if err := checkSecrets(c, inside); err != nil {
			return err
		}
	}
	return nil
}

// passwordName is the name of a field that holds a password and nothing else.
var passwordName = regexp.MustCompile(`(?i)^(.*[_-])?(password|passphrase|secret|token)$`)
