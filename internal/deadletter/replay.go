package deadletter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"gopkg.in/yaml.v3"

	"github.com/deltaforge/deltaforge/internal/guard"
)

// Replay delivers entries again, through the output of a configuration.
type Replay struct {
	// Config is the configuration of a stream, or of a run. Its input is not used.
	Config []byte
	// Resources are the configurations of shared resources.
	Resources [][]byte
	// Processors lets the entries go through the processors of Config first: for events that were kept before any processor had changed
	// them. Without it they are delivered as they were kept.
	Processors bool
	// Log is the logger of the components; nil: none.
	Log *slog.Logger
}

// Result says what became of the entries of a replay.
type Result struct {
	Delivered int `json:"delivered"`
	// Failed have failed again, and are kept with their new error.
	Failed int `json:"failed"`
}

// resourceSections are the parts of a configuration that its output and its processors may refer to.
var resourceSections = []string{
	"cache_resources", "rate_limit_resources", "processor_resources", "output_resources", "input_resources",
}

// Run delivers the entries that f chooses, one after the other, in their order, and removes those that are delivered. It ends when all have had
// their turn, or with ctx: an output that cannot be reached is waited for.
func (r Replay) Run(ctx context.Context, s *Store, f Filter) (out Result, err error) {
	entries, err := s.List(ctx, f, false)
	if err != nil || len(entries) == 0 {
		return out, err
	}
	send, stop, err := r.start(ctx)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	for _, e := range entries {
		if e, err = s.Get(ctx, e.ID); errors.Is(err, ErrNotFound) {
			continue // purged meanwhile
		} else if err != nil {
			return out, err
		}
		m, err := e.Message(r.Processors)
		if err != nil {
			return out, err
		}
		refused := send(ctx, service.MessageBatch{m})
		switch {
		case ctx.Err() != nil:
			return out, ctx.Err()
		case refused != nil:
			out.Failed++
			if err := s.Failed(ctx, e.ID, refused, time.Now()); err != nil {
				return out, err
			}
		default:
			if _, err := s.Delivered(ctx, []Entry{e}); err != nil {
				return out, err
			}
			out.Delivered++
		}
	}
	return out, nil
}

// start builds and runs the stream of the replay.
func (r Replay) start(ctx context.Context) (send service.MessageBatchHandlerFunc, stop func() error, err error) {
	b := service.NewStreamBuilder()
	b.SetLogger(cmp.Or(r.Log, slog.New(slog.DiscardHandler)))
	b.SetThreads(1)
	for _, text := range r.Resources {
		if err := b.AddResourcesYAML(string(text)); err != nil {
			return nil, nil, fmt.Errorf("the resources: %w", err)
		}
	}
	if err := r.configure(b); err != nil {
		return nil, nil, fmt.Errorf("the configuration: %w", err)
	}
	if send, err = b.AddBatchProducerFunc(); err != nil {
		return nil, nil, err
	}
	stream, err := b.Build()
	if err != nil {
		return nil, nil, err
	}
	ended := make(chan error, 1)
	go func() {
		ended <- guard.Do("dead letter replay", func(int64) {}, func(*guard.Panic) {}, func() error { return stream.Run(ctx) })
	}()
	return send, func() error {
		const patience = 10 * time.Second
		err := stream.StopWithin(patience)
		if e := <-ended; e != nil && !errors.Is(e, context.Canceled) {
			err = errors.Join(err, e)
		}
		return err
	}, nil
}

// configure gives the stream the parts of the configuration that a replay needs. A replay keeps its failures itself, and has no position to
// commit.
func (r Replay) configure(b *service.StreamBuilder) error {
	var whole map[string]yaml.Node
	if err := yaml.Unmarshal(r.Config, &whole); err != nil {
		return err
	}
	output, ok := whole["output"]
	if !ok {
		return errors.New("it has no output")
	}
	if err := add(b.AddOutputYAML, &output); err != nil {
		return err
	}
	var pipeline struct {
		Processors []yaml.Node `yaml:"processors"`
	}
	if node := whole["pipeline"]; r.Processors && node.Kind != 0 {
		if err := node.Decode(&pipeline); err != nil {
			return fmt.Errorf("pipeline: %w", err)
		}
	}
	for i := range pipeline.Processors {
		if err := add(b.AddProcessorYAML, &pipeline.Processors[i]); err != nil {
			return err
		}
	}
	shared := map[string]*yaml.Node{}
	for _, section := range resourceSections {
		if node, there := whole[section]; there {
			shared[section] = &node
		}
	}
	if len(shared) > 0 {
		text, err := yaml.Marshal(shared)
		if err != nil {
			return err
		}
		if err := b.AddResourcesYAML(string(text)); err != nil {
			return err
		}
	}
	return b.SetMetricsYAML("none: {}") // the address of the run's own page is taken
}

// add gives a part to the stream.
func add(to func(string) error, part *yaml.Node) error {
	forReplay(part)
	text, err := yaml.Marshal(part)
	if err != nil {
		return err
	}
	return to(string(text))
}

// forReplay takes out of a configuration what keeps dead letters, and exactly_once: a replay is no part of what a source has read.
func forReplay(n *yaml.Node) {
	if n.Kind == yaml.MappingNode {
		kept := n.Content[:0]
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			switch key.Value {
			case FieldDeadLetter, "exactly_once":
				continue
			case "deltaforge_dlq":
				key.Value = "reject"
				value = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: `${! metadata("` + fallbackError + `").or(error()).or("refused") }`}
			}
			kept = append(kept, key, value)
		}
		n.Content = kept
	}
	for _, child := range n.Content {
		forReplay(child)
	}
}
