package advice

import (
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"
)

// place is a key of the configuration, with its path.
type place struct {
	key  *yaml.Node
	path string
}

// find returns the keys below n that are, in the order of the text.
func (c *checker) find(n *yaml.Node, path string, is func(key string, v *yaml.Node) bool) (found []place) {
	if c.budget--; n == nil || c.budget < 0 {
		return nil
	}
	switch n.Kind {
	case yaml.SequenceNode:
		for i, e := range n.Content {
			found = append(found, c.find(e, fmt.Sprintf("%s.%d", path, i), is)...)
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, v := n.Content[i], n.Content[i+1]
			at := path + "." + key.Value
			if is(key.Value, v) {
				found = append(found, place{key, at})
			}
			found = append(found, c.find(v, at, is)...)
		}
	}
	return found
}

// exactly looks at what exactly-once delivery does not go with.
func (c *checker) exactly(input *yaml.Node) {
	on := func(n *yaml.Node) bool { v := child(n, "exactly_once"); return v != nil && v.Value == "true" }
	ours := func(key string) bool { return strings.HasPrefix(key, "deltaforge_") }
	sources := c.find(input, "input", func(key string, v *yaml.Node) bool { return ours(key) && on(child(v, "checkpoint")) })
	outputs := c.find(child(c.root, "output"), "output", func(key string, v *yaml.Node) bool { return ours(key) && on(v) })
	if len(sources) == 0 && len(outputs) == 0 {
		return
	}
	for i, s := range sources {
		switch {
		case len(outputs) == 0 && child(c.root, "output") != nil:
			c.add(s.key, s.path, "exactly once: the output is to keep the position, and none has `exactly_once: true`. Set it there, or remove it here")
		case i > 0:
			c.add(s.key, s.path, "exactly once: a second source that keeps its position in the output. Give each source a stream of its own")
		}
	}
	for i, o := range outputs {
		broker := strings.Contains(o.path, ".broker.") || strings.Contains(o.path, ".switch.") || strings.Contains(o.path, ".dynamic.") || strings.Contains(o.path, ".deltaforge_fanout.")
		switch {
		case len(sources) == 0:
			c.add(o.key, o.path, "exactly once: the source keeps its position elsewhere. Set `checkpoint: {exactly_once: true}` on it, or remove `exactly_once` here")
		case broker:
			c.add(o.key, o.path, "exactly once: one of several outputs moves the position past what the others do not have. Give it a stream of its own")
		case i > 0:
			c.add(o.key, o.path, "exactly once: a second output with `exactly_once: true`. Give each a stream of its own")
		}
	}
	const parts = "exactly once: the parts of a batch can be written in any order, and a crash between them loses rows. Leave it out: `max_buffered_bytes` of the output bounds a transaction"
	const merged = "exactly once: what it makes of several events has no place in the log, and the output refuses it. Leave it out"
	for _, p := range c.find(child(c.root, "pipeline"), "pipeline", func(key string, _ *yaml.Node) bool {
		return key == "split" || key == "archive" || key == "group_by" || key == "group_by_value"
	}) {
		if p.key.Value == "archive" {
			c.add(p.key, p.path, "%s", merged)
		} else {
			c.add(p.key, p.path, "%s", parts)
		}
	}
}
