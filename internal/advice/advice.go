// Package advice looks at a whole stream with a source of ours, and says what in it gives up a guarantee of the source: no loss, or the order.
// The engine's linter sees one field at a time, and so cannot.
package advice

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Finding is one thing that gives up a guarantee.
type Finding struct {
	Line int    // in the text
	Path string // pipeline.processors.0.dedupe
	Text string // what it gives up, and the recipe that does not
}

// String shows a finding in a line.
func (f Finding) String() string { return f.Path + ": " + f.Text }

// Of returns what gives up a guarantee in the text of a configuration. One without a source of ours has none.
func Of(config []byte) (found []Finding, err error) {
	for d := yaml.NewDecoder(bytes.NewReader(config)); ; {
		var doc yaml.Node
		if err := d.Decode(&doc); errors.Is(err, io.EOF) {
			return found, nil
		} else if err != nil {
			return nil, err
		}
		if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
			continue
		}
		c := checker{root: doc.Content[0], budget: maxNodes}
		c.stream()
		found = append(found, c.found...)
	}
}

// maxNodes is how much of a configuration is looked at.
const maxNodes = 100_000

type checker struct {
	root   *yaml.Node
	found  []Finding
	budget int
	guard  bool // the output takes care of what it refuses: nothing comes back to the source
}

func (c *checker) add(n *yaml.Node, path, format string, args ...any) {
	c.found = append(c.found, Finding{Line: n.Line, Path: path, Text: fmt.Sprintf(format, args...)})
}

// stream looks at a stream's parts and at the resources in the same text.
func (c *checker) stream() {
	input := child(c.root, "input")
	if !hasSource(input, 16) {
		return
	}
	if retry := child(child(c.root, "output"), "retry"); retry != nil {
		most := child(retry, "max_retries")
		c.guard = most == nil || most.Value == "0"
	}
	c.buffer(child(c.root, "buffer"))
	for _, part := range []string{"input", "pipeline", "output", "processor_resources", "output_resources", "input_resources"} {
		c.walk(child(c.root, part), part)
	}
	c.caches(input)
	c.exactly(input)
	slices.SortStableFunc(c.found, func(a, b Finding) int { return a.Line - b.Line })
}

// hasSource reports whether an input is a source of ours, or has one.
func hasSource(n *yaml.Node, depth int) bool {
	if n == nil || depth == 0 {
		return false
	}
	for i, e := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 && strings.HasPrefix(e.Value, "deltaforge_") {
			return true
		}
		if hasSource(e, depth-1) {
			return true
		}
	}
	return false
}

// child returns the value of a key; nil: there is none.
func child(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// buffer looks at the stream's buffer.
func (c *checker) buffer(n *yaml.Node) {
	if n == nil || n.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		kind := n.Content[i]
		switch kind.Value {
		case "none", "label":
		case "memory":
			c.add(kind, "buffer.memory", "it acknowledges what it holds in memory: what is there when the process is killed is lost, and the position is after it. Leave the "+
				"buffer out: the source gathers the next batch while one is on its way, and `max_in_flight` of the source lets more be on theirs")
		case "system_window":
			c.add(kind, "buffer.system_window", "it drops what comes late, and a source with `max_in_flight: 1` gives it one batch a window. Leave the buffer out, or make windows "+
				"after the sink")
		default:
			c.add(kind, "buffer."+kind.Value, "whether it keeps what it has acknowledged is not known here. Leave the buffer out, or make sure that what it holds outlives the process")
		}
	}
}

// again is the recipe for processors that remember.
const again = "a batch that the output refuses is sent again, is then a repetition, and is dropped with every row that was not delivered; a cache that outlives the process " +
	"loses rows at a crash as well. Let nothing come back to the source: `output: {retry: {output: …}}`, with a cache in memory; or drop repetitions by `event_id` after the sink"

// walk looks for what gives up a guarantee, in a part of the configuration.
func (c *checker) walk(n *yaml.Node, path string) {
	if c.budget--; n == nil || c.budget < 0 {
		return
	}
	switch n.Kind {
	case yaml.SequenceNode:
		for i, e := range n.Content {
			c.walk(e, fmt.Sprintf("%s.%d", path, i))
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, v := n.Content[i], n.Content[i+1]
			at := path + "." + key.Value
			if strict := child(n, "strict_mode"); key.Value != "cases" || strict == nil || strict.Value != "true" {
				c.component(key, v, at)
			}
			c.walk(v, at)
		}
	}
}

// component looks at one key with its value.
func (c *checker) component(key, v *yaml.Node, at string) {
	text := func(name string) string {
		if n := child(v, name); n != nil {
			return n.Value
		}
		return ""
	}
	switch key.Value {
	case "dedupe":
		if !c.guard {
			c.add(key, at, "it remembers what it has let through: %s", again)
		}
	case "cache":
		if !c.guard && text("operator") == "add" {
			c.add(key, at, "used to drop repetitions, it remembers what it has let through: %s", again)
		}
	case "bounds_check":
		c.add(key, at, "it drops messages out of its bounds without an error. Leave it out: an output that cannot take a message says so, and a `fallback` takes what is refused")
	case "drop_on":
		c.add(key, at, "what it drops is acknowledged, and lost. Use a `fallback` with a second output that keeps what is refused")
	case "round_robin", "greedy":
		c.add(key, at, "the rows of one key go to several outputs, and overtake each other. Use `fan_out`, or a `switch` by table")
	case "pattern":
		if v.Value == "round_robin" || v.Value == "greedy" {
			c.add(key, at+"."+v.Value, "the rows of one key go to several outputs, and overtake each other. Use `fan_out`, or a `switch` by table")
		}
	case "cases":
		c.cases(key, v, at)
	case "batching", "batched":
		policy := v
		if key.Value == "batched" {
			policy = child(v, "policy")
		}
		c.policy(key, policy, at)
	}
}

// cases looks at the cases of an output that switches.
func (c *checker) cases(key, v *yaml.Node, at string) {
	if v.Kind != yaml.SequenceNode || len(v.Content) == 0 || !strings.HasSuffix(at, ".switch.cases") {
		return
	}
	for _, one := range v.Content {
		if check := child(one, "check"); check == nil || check.Value == "" {
			return
		}
	}
	c.add(key, at, "rows that no case takes are dropped. Set `strict_mode: true`, or add a last case without a `check`; `drop` there says that it is on purpose")
}

// policy looks at a batching policy.
func (c *checker) policy(key, policy *yaml.Node, at string) {
	set := func(name string) bool {
		n := child(policy, name)
		return n != nil && n.Value != "" && n.Value != "0"
	}
	if (set("count") || set("byte_size") || set("check")) && !set("period") {
		c.add(key, at, "without a `period` the last rows stay here until more come, and a source with `max_in_flight: 1` sends none before they are answered. Set a `period`, "+
			"for example 100ms; or leave it out: the source makes batches (`batch`)")
	}
}

// caches looks at the caches that hold the positions, where they are in the same text.
func (c *checker) caches(input *yaml.Node) {
	for _, label := range positionCaches(input, 16) {
		for i, res := range contentOf(child(c.root, "cache_resources")) {
			if l := child(res, "label"); l == nil || l.Value != label {
				continue
			}
			for _, kind := range []string{"memory", "lru", "ttlru", "noop"} {
				if n := child(res, kind); n != nil {
					c.add(n, fmt.Sprintf("cache_resources.%d.%s", i, kind), "it holds the position of a source, and does not outlive the process: after a restart the source starts as if "+
						"for the first time. Use `deltaforge_checkpoint`, a `file`, or the embedded store (leave `checkpoint.cache` out)")
				}
			}
		}
	}
}

func contentOf(n *yaml.Node) []*yaml.Node {
	if n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	return n.Content
}

// positionCaches returns the labels of the caches that sources keep their positions in.
func positionCaches(n *yaml.Node, depth int) (labels []string) {
	if n == nil || depth == 0 {
		return nil
	}
	if cache := child(child(n, "checkpoint"), "cache"); cache != nil && cache.Value != "" {
		labels = append(labels, cache.Value)
	}
	for _, e := range n.Content {
		labels = append(labels, positionCaches(e, depth-1)...)
	}
	return labels
}
