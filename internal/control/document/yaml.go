// Package document reads and writes the configurations of streams as texts: the sources in them, their secrets, and the files that hold them.
package document

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/deltaforge/deltaforge/internal/redact"
)

var errNotMapping = errors.New("want a mapping")

// Mapping parses a document that must be a mapping; the empty document is an empty one.
func Mapping(data []byte) (*yaml.Node, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, err
	}
	if doc.Kind == 0 {
		return &yaml.Node{Kind: yaml.MappingNode}, nil
	}
	if doc.Content[0].Kind != yaml.MappingNode {
		return nil, errNotMapping
	}
	return doc.Content[0], nil
}

// Merge returns a configuration with a patch over it: mappings are merged, everything else is replaced, as the
// engine does it. It works on the text, so references to environment variables stay what they are.
func Merge(config, patch []byte) ([]byte, error) {
	base, err := Mapping(config)
	if err != nil {
		return nil, fmt.Errorf("the configuration: %w", err)
	}
	over, err := Mapping(patch)
	if err != nil {
		return nil, fmt.Errorf("the patch: %w", err)
	}
	mergeNode(base, over)
	return yaml.Marshal(base)
}

func mergeNode(base, over *yaml.Node) {
	base.Style = 0 // block style, where comments and long values have room
	for i := 0; i+1 < len(over.Content); i += 2 {
		key, value := over.Content[i], over.Content[i+1]
		at := slices.IndexFunc(base.Content, func(n *yaml.Node) bool { return n.Value == key.Value })
		for at >= 0 && at%2 == 1 { // a value, not a key
			next := slices.IndexFunc(base.Content[at+1:], func(n *yaml.Node) bool { return n.Value == key.Value })
			if next < 0 {
				at = -1
				break
			}
			at += 1 + next
		}
		switch {
		case at < 0:
			base.Content = append(base.Content, key, value)
		case base.Content[at+1].Kind == yaml.MappingNode && value.Kind == yaml.MappingNode:
			mergeNode(base.Content[at+1], value)
		default:
			base.Content[at+1] = value
		}
	}
}

// Split returns the values of a mapping, each as a document.
func Split(data []byte) (map[string][]byte, error) {
	root, err := Mapping(data)
	if err != nil {
		return nil, fmt.Errorf("a map of stream ids to configurations: %w", err)
	}
	docs := map[string][]byte{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		if docs[root.Content[i].Value], err = yaml.Marshal(root.Content[i+1]); err != nil {
			return nil, err
		}
	}
	return docs, nil
}

// JSON returns a document as JSON.
func JSON(data []byte) (json.RawMessage, error) {
	var v any
	if err := yaml.Unmarshal(data, &v); err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

// Source is an input of ours in a configuration.
type Source struct {
	Kind   string // its type
	label  string
	path   string // where it is, as the engine says it: root.input.broker.inputs.0
	Fields map[string]any
}

// FindSources returns the inputs of the given types, however deep in brokers they are.
func FindSources(config []byte, types []string) []Source {
	var root struct {
		Input any `yaml:"input"`
	}
	if err := yaml.Unmarshal([]byte(ExpandEnv(string(config))), &root); err != nil {
		return nil
	}
	var found []Source
	var walk func(v any, path string)
	walk = func(v any, path string) {
		switch v := v.(type) {
		case []any:
			for i, e := range v {
				walk(e, path+"."+strconv.Itoa(i))
			}
		case map[string]any:
			for key, value := range v {
				fields, _ := value.(map[string]any)
				if slices.Contains(types, key) && fields != nil {
					label, _ := v["label"].(string)
					found = append(found, Source{Kind: key, label: label, path: path, Fields: fields})
					continue
				}
				walk(value, path+"."+key)
			}
		}
	}
	walk(root.Input, "root.input")
	return found
}

// ForeignInput returns the type of an input of the configuration that is none of the given types; empty: there is none. What
// holds inputs itself, such as a broker, counts for them.
func ForeignInput(config []byte, types []string) string {
	var root struct {
		Input map[string]any `yaml:"input"`
	}
	if err := yaml.Unmarshal([]byte(ExpandEnv(string(config))), &root); err != nil {
		return "unknown"
	}
	return foreignIn(root.Input, types)
}

func foreignIn(input map[string]any, types []string) string {
	kind := InputType(input)
	if slices.Contains(types, kind) {
		return ""
	}
	fields, _ := input[kind].(map[string]any)
	var inner []any
	for _, key := range []string{"input", "child", "inputs"} {
		switch v := fields[key].(type) {
		case []any:
			inner = append(inner, v...)
		case map[string]any:
			if key != "inputs" {
				inner = append(inner, v)
				continue
			}
			for _, one := range v { // dynamic: by label
				inner = append(inner, one)
			}
		}
	}
	for _, one := range inner {
		in, _ := one.(map[string]any)
		if foreign := foreignIn(in, types); foreign != "" {
			return foreign
		}
	}
	if len(inner) == 0 {
		return kind
	}
	return ""
}

// InputTypeOf names the type of a configuration's input.
func InputTypeOf(config []byte) string {
	var root struct {
		Input map[string]any `yaml:"input"`
	}
	if err := yaml.Unmarshal(config, &root); err != nil {
		return "unknown"
	}
	return InputType(root.Input)
}

// InputType names the type of an input.
func InputType(input map[string]any) string {
	if t, ok := input["type"].(string); ok {
		return t
	}
	for key := range input {
		if key != "label" && key != "processors" && key != "plugin" {
			return key
		}
	}
	return "unknown"
}

// Text returns the string at a path of fields.
func (s Source) Text(path ...string) string {
	v := any(s.Fields)
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	t, _ := v.(string)
	return t
}

// envReference is a reference to an environment variable, as the engine has it.
var envReference = regexp.MustCompile(`\$\{([0-9A-Za-z_.]+)(?::([^}]*))?\}`)

// Shown returns a text about a configuration in which the values of the environment variables that the configuration refers to
// are the references again: what is in the environment is not the caller's to read.
func Shown(config []byte, text string) string {
	for _, m := range envReference.FindAllSubmatch(config, -1) {
		if v := os.Getenv(string(m[1])); len(v) > 1 {
			text = redact.Replace(text, v, "${"+string(m[1])+"}")
		}
	}
	return text
}

// ExpandEnv replaces references to environment variables as the engine does: ${NAME} and ${NAME:default}.
func ExpandEnv(s string) string {
	return envReference.ReplaceAllStringFunc(s, func(ref string) string {
		m := envReference.FindStringSubmatch(ref)
		if v := os.Getenv(m[1]); v != "" {
			return v
		}
		return m[2]
	})
}

// KindOf returns what the component at a path is, in the singular: root.input.broker.inputs.0 is an input.
func KindOf(path string) string {
	parts := strings.Split(path, ".")
	for _, part := range slices.Backward(parts) {
		part = strings.TrimSuffix(strings.TrimSuffix(part, "_resources"), "s")
		switch part {
		case "input", "output", "processor", "buffer", "cache", "rate_limit", "metric", "tracer":
			return part
		}
	}
	return ""
}
