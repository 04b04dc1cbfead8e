package fanoutout

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/redpanda-data/benthos/v4/public/service"
)

const (
	fieldOutputs  = "outputs"
	fieldName     = "name"
	fieldRequired = "required"
	fieldOutput   = "output"
	fieldPolicy   = "commit_policy"
	fieldSpool    = "spool"
	fieldPath     = "path"
	fieldMaxBytes = "max_bytes"
)

const (
	policyAll      = "all"
	policyRequired = "required"
)

type config struct {
	outputs  []one
	policy   string
	quorum   int // 0: none
	path     string
	maxBytes int64
}

type one struct {
	name     string
	required bool
	output   *service.OwnedOutput
}

// late reports whether an output has its batches from the spool.
func (c *config) late(o one) bool { return c.quorum > 0 || c.policy == policyRequired && !o.required }

const description = `
Each batch goes to all of the outputs. ` + "`commit_policy`" + ` says which of them must have it before the source goes on; the others have it from a file, in order, as fast as they can. An output that is away does not
hold back the rest: it catches up by itself when it is back, also after a restart of the process.

== Delivery

At-least-once for each output, in order. The source's position passes a batch when the outputs that are waited for have it **and** the disk has it for the others. A refusal of an output that is waited for goes back to the source,
which sends those events again, to all.

What an output of the spool refuses is tried again without end, and what is after it waits: give such an output ` + "`dead_letter`" + `. When its part of the spool has reached ` + "`max_bytes`" + `, its oldest batches are dropped, counted in
` + "`spool_dropped_total`" + `, and logged. With a quorum nothing is dropped: the output waits, visibly.

An output with ` + "`exactly_once`" + ` cannot be among the outputs: the position is the source's, and not that of one output.

Where every output has to have everything, the engine's ` + "`broker`" + ` with ` + "`pattern: fan_out`" + ` does the same as ` + "`commit_policy: all`" + `.
`

func spec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Categories("Utility").
		Version("0.1.0").
		Summary("Gives each batch to several outputs, of which some may be late.").
		Description(description).
		Fields(
			service.NewObjectListField(fieldOutputs,
				service.NewStringField(fieldName).Description("The name, on the metrics page and in the spool. It stays the same over restarts."),
				service.NewBoolField(fieldRequired).Default(true).Description("Whether the source waits for it, with `commit_policy: required`."),
				service.NewOutputField(fieldOutput).Description("The output."),
			).Description("The outputs."),
			service.NewStringField(fieldPolicy).Default(policyRequired).
				Description("Which outputs must have a batch before the source goes on: `required` (those with `required: true`), `all`, or `quorum(n)`, any n of them.").
				LintRule(`root = if !["all", "required"].contains(this) && !this.re_match("^quorum\\([1-9][0-9]*\\)$") { "want all, required or quorum(n)" }`),
			service.NewObjectField(fieldSpool,
				service.NewStringField(fieldPath).Default("deltaforge_spool.db").
					Description("The file of what late outputs have still to deliver. It is made when it is missing; its folder must exist. Only the owner can read it. Keep it where the checkpoint is."),
				service.NewIntField(fieldMaxBytes).Default(1<<30).
					Description("The most bytes of each late output."),
			).Description("Where late outputs have their batches from."),
		).
		Example("A cache that must not hold back Kafka", "Kafka is waited for. Redis may be away, and catches up.", `
output:
  deltaforge_fanout:
    outputs:
      - name: kafka
        output:
          deltaforge_kafka:
            seed_brokers: [ localhost:9092 ]
            topic_prefix: shop
      - name: cache
        required: false
        output:
          deltaforge_redis:
            url: redis://localhost:6379
            prefix: cache
            write: hash
            dead_letter: {}
`)
}

func parseConfig(p *service.ParsedConfig) (*config, error) {
	c := &config{}
	var err error
	if err = c.parsePolicy(p); err != nil {
		return nil, fmt.Errorf("field %s: %w", fieldPolicy, err)
	}
	if c.path, err = p.FieldString(fieldSpool, fieldPath); err == nil && c.path == "" {
		err = fmt.Errorf("field %s.%s: wants the name of a file", fieldSpool, fieldPath)
	}
	if err != nil {
		return nil, err
	}
	c.path = filepath.Clean(c.path)
	n, err := p.FieldInt(fieldSpool, fieldMaxBytes)
	if err == nil && n < 1<<10 {
		err = fmt.Errorf("field %s.%s: %d is below 1024", fieldSpool, fieldMaxBytes, n)
	}
	if err != nil {
		return nil, err
	}
	c.maxBytes = int64(n)
	return c, c.parseOutputs(p)
}

func (c *config) parsePolicy(p *service.ParsedConfig) (err error) {
	if c.policy, err = p.FieldString(fieldPolicy); err != nil {
		return err
	}
	inner, isQuorum := strings.CutPrefix(c.policy, "quorum(")
	if isQuorum {
		c.quorum, err = strconv.Atoi(strings.TrimSuffix(inner, ")"))
		if err != nil || c.quorum < 1 || !strings.HasSuffix(inner, ")") {
			return fmt.Errorf("%q is not quorum(n)", c.policy)
		}
		return nil
	}
	if c.policy != policyAll && c.policy != policyRequired {
		return fmt.Errorf("%q is not all, required or quorum(n)", c.policy)
	}
	return nil
}

func (c *config) parseOutputs(p *service.ParsedConfig) error {
	list, err := p.FieldObjectList(fieldOutputs)
	if err != nil {
		return err
	}
	names := map[string]bool{}
	waited := false
	for i, entry := range list {
		var o one
		if o.name, err = entry.FieldString(fieldName); err == nil && (o.name == "" || names[o.name]) {
			err = fmt.Errorf("field %s.%d.%s: %q is empty, or the name of another one", fieldOutputs, i, fieldName, o.name)
		}
		if err == nil {
			o.required, err = entry.FieldBool(fieldRequired)
		}
		if err == nil {
			o.output, err = entry.FieldOutput(fieldOutput)
		}
		if err != nil {
			return err
		}
		names[o.name] = true
		waited = waited || o.required
		c.outputs = append(c.outputs, o)
	}
	switch {
	case len(c.outputs) == 0:
		return fmt.Errorf("field %s: there is none", fieldOutputs)
	case c.quorum > len(c.outputs):
		return fmt.Errorf("field %s: %s of %d outputs", fieldPolicy, c.policy, len(c.outputs))
	case c.policy == policyRequired && !waited:
		return fmt.Errorf("field %s: none has %s: true, so nobody would notice what is lost with the spool; make one required, or use quorum(1)", fieldOutputs, fieldRequired)
	}
	return nil
}
