package document

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/redpanda-data/benthos/v4/public/service"
	"gopkg.in/yaml.v3"

	"github.com/deltaforge/deltaforge/internal/redact"
)

// Mask stands for a secret in what the control plane returns.
const Mask = redact.Mask

// Redact masks the secrets of a stream's configuration: the fields that the components say are secret, the fields
// whose name says it, and passwords inside addresses.
func Redact(config json.RawMessage) (json.RawMessage, error) {
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

// wholeReference is a value that is one reference to an environment variable, with or without a default.
var wholeReference = regexp.MustCompile(`^\$\{([0-9A-Za-z_.]+)(:[^}]*)?\}$`)

// reference returns how a value is shown that names a secret: without the default, which is the secret itself.
func reference(s string) (shown string, ok bool) {
	if s == "" {
		return s, true
	}
	m := wholeReference.FindStringSubmatch(s)
	if m == nil {
		return "", false
	}
	if m[2] == "" || m[2] == ":" {
		return s, true
	}
	return "${" + m[1] + ":" + Mask + "}", true
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
		o, _ := shown.(string)
		secret := redact.Name(name) || (o == Mask && o != v)
		if text, ok := reference(v); ok && (secret || text == v) {
			return text
		}
		if secret {
			if r := redact.Text(v); r != v && strings.Contains(v, "@") {
				return r // an address: only its password is secret
			}
			return Mask
		}
		return redact.Text(v)
	case nil, bool:
		return v
	default: // a number
		if redact.Name(name) && !strings.HasSuffix(name, "_ms") {
			return Mask
		}
		return v
	}
}

// Learn makes the secrets of a stream's configuration known, so that they are masked wherever they would appear: what the
// components say is secret, what stands under a name that says it, and the passwords inside addresses.
func Learn(config []byte) {
	var v, other any
	text := []byte(ExpandEnv(string(config)))
	if yaml.Unmarshal(text, &v) != nil || yaml.Unmarshal(text, &other) != nil {
		return
	}
	learnValue(v, scrubbed(other), "")
}

func learnValue(v, shown any, name string) {
	switch v := v.(type) {
	case map[string]any:
		other, _ := shown.(map[string]any)
		for key, value := range v {
			learnValue(value, other[key], key)
		}
	case []any:
		other, _ := shown.([]any)
		for i, value := range v {
			var o any
			if i < len(other) {
				o = other[i]
			}
			learnValue(value, o, name)
		}
	case string:
		inside := redact.Passwords(v)
		redact.Add(inside...)
		o, _ := shown.(string)
		if len(inside) == 0 && (redact.Name(name) || (o == Mask && o != v)) && !strings.Contains(v, "://") {
			redact.Add(v)
		}
	case nil, bool:
	default:
		if redact.Name(name) {
			redact.Add(fmt.Sprint(v))
		}
	}
}
