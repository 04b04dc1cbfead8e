// Package trial lints a configuration, builds its components, and tests their connections, without starting any of them.
package trial

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/redpanda-data/benthos/v4/public/service"
	"gopkg.in/yaml.v3"

	"github.com/deltaforge/deltaforge/internal/control/document"
	"github.com/deltaforge/deltaforge/internal/redact"
)

// Checker builds the components of a configuration to see whether they can be built, without starting any of them.
type Checker struct {
	res     *service.Resources
	witness Witness
	turn    chan struct{} // holds as many as may check at once
}

// New returns a checker. What the components on trial count and say of panics goes to the witness.
func New(res *service.Resources, w Witness) Checker {
	return Checker{res: res, witness: w, turn: make(chan struct{}, 2)}
}

const (
	// maxNodes is how many keys and values a configuration may have. The engine's linter needs time that grows with their square.
	maxNodes = 20_000
	// maxLints is how many complaints an answer holds.
	maxLints = 100
)

// sized refuses a document that the linter would take minutes for.
func sized(root *yaml.Node) error {
	left := maxNodes
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		if left--; left < 0 || n.Kind == yaml.AliasNode {
			return
		}
		for _, c := range n.Content {
			walk(c)
		}
	}
	walk(root)
	if left < 0 {
		return fmt.Errorf("the configuration has more than %d keys and values", maxNodes)
	}
	return nil
}

// resources returns a stand-in for each resource of the process that the configuration may refer to: real ones would
// connect. Any text in it that is the label of a resource counts.
func (c Checker) resources(config any) map[string]any {
	sections := map[string][]any{}
	seen := map[string]bool{}
	add := func(label string, has func(string) bool, section, kind string, fields map[string]any) {
		if has(label) {
			sections[section] = append(sections[section], map[string]any{"label": label, kind: fields})
		}
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, e := range v {
				walk(e)
			}
		case []any:
			for _, e := range v {
				walk(e)
			}
		case string:
			v = document.ExpandEnv(v)
			if v == "" || seen[v] {
				return
			}
			seen[v] = true
			add(v, c.res.HasCache, "cache_resources", "memory", map[string]any{})
			add(v, c.res.HasRateLimit, "rate_limit_resources", "local", map[string]any{})
			add(v, c.res.HasProcessor, "processor_resources", "noop", map[string]any{})
			add(v, c.res.HasInput, "input_resources", "generate", map[string]any{"mapping": "root = {}"})
			add(v, c.res.HasOutput, "output_resources", "drop", map[string]any{})
		}
	}
	walk(config)
	all := map[string]any{}
	for section, list := range sections {
		all[section] = list
	}
	return all
}

// lint returns what the linter says of a stream configuration.
func lint(config []byte) ([]string, error) {
	found, err := service.GlobalEnvironment().CoreConfigSchema("", "").NewStreamConfigLinter().LintYAML(config)
	if err != nil {
		return nil, err
	}
	texts := make([]string, 0, min(len(found), maxLints+1))
	for i, l := range found {
		if i == maxLints {
			texts = append(texts, fmt.Sprintf("and %d more", len(found)-maxLints))
			break
		}
		texts = append(texts, document.Shown(config, l.Error()))
	}
	return texts, nil
}

// Lint parses a configuration and returns what the linter says of it. The secrets in it are known from then on.
func (c Checker) Lint(ctx context.Context, config []byte) ([]string, error) {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-c.turn }()
	root, err := document.Mapping(config)
	if err == nil {
		err = sized(root)
	}
	if err != nil {
		return nil, err
	}
	document.Learn(config)
	if err := document.CheckSecrets(config); err != nil {
		return nil, err
	}
	return lint(document.QuoteSecrets(config))
}

// trialName is the processor whose constructor builds the components under test. It exists for the time of one check, in
// an environment of its own: a component can be built from a configuration, with the resources around it, only inside
// the constructor of another.
const trialName = "deltaforge_trial"

const (
	trialInput      = "input"
	trialOutput     = "output"
	trialProcessors = "processors"
)

// Result is the outcome of the test of one connection.
type Result struct {
	Component string `json:"component"`
	Status    string `json:"status"` // connected, failed, unsupported
	Error     string `json:"error,omitempty"`
}

// Build builds the components of a configuration and closes them again. With results, it tests their connections first.
func (c Checker) Build(ctx context.Context, config []byte, results *[]Result) error {
	var parts struct {
		Input    map[string]any `yaml:"input"`
		Output   map[string]any `yaml:"output"`
		Pipeline struct {
			Processors []any `yaml:"processors"`
		} `yaml:"pipeline"`
	}
	if err := yaml.Unmarshal(config, &parts); err != nil {
		return err
	}
	// The processors of an input are built among the others: those inside an input run from its construction on.
	own, _ := parts.Input["processors"].([]any)
	delete(parts.Input, "processors")
	fields := map[string]any{trialProcessors: slices.Concat([]any{}, own, parts.Pipeline.Processors)}
	spec := service.NewConfigSpec().Field(service.NewProcessorListField(trialProcessors))
	if parts.Input != nil {
		fields[trialInput] = parts.Input
		spec = spec.Field(service.NewInputField(trialInput))
	}
	if parts.Output != nil {
		fields[trialOutput] = parts.Output
		spec = spec.Field(service.NewOutputField(trialOutput))
	}
	var built error
	ran := false
	env := service.GlobalEnvironment().Clone()
	err := env.RegisterProcessor(trialName, spec, func(conf *service.ParsedConfig, _ *service.Resources) (service.Processor, error) {
		ran = true
		built = buildParts(ctx, conf, results)
		return idle{}, nil
	})
	if err != nil {
		return err
	}
	if err := c.runTrial(ctx, env, fields, ownResources(config)); err != nil {
		return err
	}
	if !ran {
		return errors.New("the configuration could not be tried")
	}
	return built
}

// ownResources returns the resources that a configuration has itself, by section.
func ownResources(config []byte) map[string][]any {
	var sections map[string]any
	if yaml.Unmarshal(config, &sections) != nil {
		return nil
	}
	own := map[string][]any{}
	for name, v := range sections {
		if list, ok := v.([]any); ok && strings.HasSuffix(name, "_resources") {
			own[name] = list
		}
	}
	return own
}

func labelOf(resource any) any {
	fields, _ := resource.(map[string]any)
	return fields["label"]
}

// runTrial runs a stream that does nothing but build the trial processor.
func (c Checker) runTrial(ctx context.Context, env *service.Environment, fields map[string]any, own map[string][]any) error {
	doc := c.resources(fields)
	for section, list := range own {
		known, _ := doc[section].([]any)
		for _, one := range list {
			if !slices.ContainsFunc(known, func(k any) bool { return labelOf(k) == labelOf(one) }) {
				known = append(known, one)
			}
		}
		doc[section] = known
	}
	doc["input"] = map[string]any{"generate": map[string]any{"mapping": "root = {}", "count": 1, "interval": ""}}
	doc["pipeline"] = map[string]any{"threads": 1, "processors": []any{map[string]any{trialName: fields}}}
	doc["output"] = map[string]any{"drop": map[string]any{}}
	doc["metrics"] = map[string]any{trialMetrics: map[string]any{}}
	if err := c.witness.register(env); err != nil {
		return err
	}
	text, err := yaml.Marshal(doc)
	if err != nil {
		return err
	}
	builder := env.NewStreamBuilder()
	builder.DisableLinting() // done before, on the text that the caller knows
	builder.SetLogger(slog.New(c.witness))
	if err := builder.SetYAML(string(text)); err != nil {
		return errors.New(plain(err))
	}
	stream, err := builder.Build()
	if err != nil {
		return errors.New(plain(err))
	}
	if err := stream.Run(ctx); err != nil {
		return errors.New(plain(err))
	}
	return nil
}

// plain takes the trial's own place out of an error.
func plain(err error) string {
	return strings.NewReplacer("failed to init processor <no label> path root.pipeline.processors.0: ", "",
		"root.pipeline.processors.0."+trialName+".", "").Replace(err.Error())
}

// buildParts builds each part; the first that cannot be built is the error. Inputs and outputs run nothing until they
// are started, and so are left to the garbage collector: closing them would wait for an end that never comes.
func buildParts(ctx context.Context, conf *service.ParsedConfig, results *[]Result) (err error) {
	test := func(r service.ConnectionTestResults) {
		if results == nil {
			return
		}
		for _, one := range r {
			*results = append(*results, resultOf(one))
		}
	}
	if conf.Contains(trialInput) {
		in, err := conf.FieldInput(trialInput)
		if err != nil {
			return fmt.Errorf("input: %s", plain(err))
		}
		if results != nil {
			test(in.ConnectionTest(ctx))
		}
	}
	processors, err := conf.FieldProcessorList(trialProcessors)
	if err != nil {
		return fmt.Errorf("pipeline.processors: %s", plain(err))
	}
	defer func() {
		for _, p := range processors {
			_ = p.Close(context.WithoutCancel(ctx)) // it has processed nothing: there is nothing to lose
		}
	}()
	if conf.Contains(trialOutput) {
		out, err := conf.FieldOutput(trialOutput)
		if err != nil {
			return fmt.Errorf("output: %s", plain(err))
		}
		if results != nil {
			test(out.ConnectionTest(ctx))
		}
	}
	return nil
}

func resultOf(r *service.ConnectionTestResult) Result {
	path := r.Path
	if i := slices.Index(path, trialName); i >= 0 {
		path = path[i+1:]
	}
	// The components sit inside the trial processor: root.pipeline.processors.0.input
	if len(path) > 3 && path[0] == "pipeline" && path[1] == "processors" {
		path = path[3:]
	}
	res := Result{Component: r.Label, Status: "connected"}
	if res.Component == "" {
		res.Component = strings.Join(path, ".")
	}
	switch {
	case errors.Is(r.Err, service.ErrConnectionTestNotSupported):
		res.Status = "unsupported"
	case r.Err != nil:
		res.Status, res.Error = "failed", redact.Text(r.Err.Error())
	}
	return res
}

// idle is the processor of a trial.
type idle struct{}

// Process implements service.Processor.
func (idle) Process(context.Context, *service.Message) (service.MessageBatch, error) { return nil, nil }

// Close implements service.Processor.
func (idle) Close(context.Context) error { return nil }

// Main checks the configuration of run mode, which may be that of a stream alone. With results, it tests the connections.
func (c Checker) Main(ctx context.Context, config []byte, chilled bool, results *[]Result) error {
	root, err := document.Mapping(config)
	if err == nil {
		err = sized(root)
	}
	if err == nil {
		err = document.CheckSecrets(config)
	}
	if err != nil {
		return err
	}
	document.Learn(config)
	config = document.QuoteSecrets(config)
	found, err := service.GlobalEnvironment().FullConfigSchema("", "").NewStreamConfigLinter().LintYAML(config)
	if err != nil {
		return err
	}
	if len(found) > 0 && !chilled {
		return found[0]
	}
	return c.Build(ctx, config, results)
}
