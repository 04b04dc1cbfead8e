package control

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"

	"github.com/redpanda-data/benthos/v4/public/service"
	"gopkg.in/yaml.v3"
)

// Mask stands for a secret in what the control plane returns.
const Mask = "!!!SECRET_SCRUBBED!!!"

// noMask refuses a configuration that was read from here and came back with its secrets masked.
func noMask(config []byte) error {
	if strings.Contains(string(config), Mask) {
		return refusef(http.StatusBadRequest,
			"the configuration holds %s where a secret was masked: give the secret, or patch only what changes", Mask)
	}
	return nil
}

// secretNames are parts of the names of fields whose values are never shown.
var secretNames = regexp.MustCompile(`(?i)passw|secret|token|credential|api_?key|private_?key|access_?key|authorization|passphrase`)

// secretTexts are places in a text that hold a secret, in group 2.
func secretTexts() []*regexp.Regexp {
	return []*regexp.Regexp{
		regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://[^\s/:@"']*:)([^\s"']*)(@)`),                           // URL: scheme://user:password@host
		regexp.MustCompile(`([^\s:@/"']+:)([^\s"']+)(@(?:tcp|unix|tcp6|udp)?\()`),                             // MySQL: user:password@tcp(host)/db
		regexp.MustCompile(`(?i)((?:password|passwd|pwd|secret|token)\s*=\s*)('[^']*'|"[^"]*"|[^\s&;'"]+)()`), // key=value
		regexp.MustCompile(`(?i)(Bearer\s+)([A-Za-z0-9._~+/=-]+)()`),
	}
}

// texts are the compiled secretTexts.
var texts = secretTexts() //nolint:gochecknoglobals // compiled once, never changed

// redactText masks what looks like a secret inside a text.
func redactText(s string) string {
	for _, re := range texts {
		s = re.ReplaceAllString(s, "${1}"+Mask+"${3}")
	}
	return s
}

// redactConfig masks the secrets of a stream's configuration: the fields that the components say are secret, the fields
// whose name says it, and passwords inside addresses.
func redactConfig(config json.RawMessage) (json.RawMessage, error) {
	var v, other any
	for _, dst := range []*any{&v, &other} { // the engine fills in defaults as it goes
		if err := json.Unmarshal(config, dst); err != nil {
			return nil, err
		}
	}
	return json.Marshal(redactValue(v, scrubbed(other), ""))
}

// scrubbed returns the configuration as the engine shows it, in which the secret fields of components are masked.
func scrubbed(config any) any {
	text, err := service.GlobalEnvironment().CoreConfigSchema("", "").NewStreamConfigMarshaller().SetScrubSecrets(true).AnyToYAML(config)
	if err != nil {
		return nil
	}
	var v any
	if yaml.Unmarshal([]byte(text), &v) != nil {
		return nil
	}
	return v
}

// reference is a value that names a secret and does not hold it.
func reference(s string) bool {
	return s == "" || (strings.HasPrefix(s, "${") && strings.HasSuffix(s, "}") && !strings.Contains(s, ":"))
}

func redactValue(v, shown any, name string) any {
	switch v := v.(type) {
	case map[string]any:
		other, _ := shown.(map[string]any)
		for key, value := range v {
			v[key] = redactValue(value, other[key], key)
		}
		return v
	case []any:
		other, _ := shown.([]any)
		for i, value := range v {
			var o any
			if i < len(other) {
				o = other[i]
			}
			v[i] = redactValue(value, o, name)
		}
		return v
	case string:
		if reference(v) {
			return v
		}
		if s, ok := shown.(string); secretNames.MatchString(name) || (ok && s == Mask && s != v) {
			if r := redactText(v); r != v {
				return r // an address: only its password is secret
			}
			return Mask
		}
		return redactText(v)
	case nil, bool:
		return v
	default: // a number
		if secretNames.MatchString(name) && !strings.Contains(name, "_ms") {
			return Mask
		}
		return v
	}
}
