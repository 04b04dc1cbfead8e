// Package dlqout provides deltaforge_dlq, the output that keeps events that another output has refused.
package dlqout

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/deadletter"
	"github.com/deltaforge/deltaforge/internal/sink"
)

const fieldOutput = "output"

func init() {
	service.MustRegisterBatchOutput("deltaforge_dlq", spec(),
		func(p *service.ParsedConfig, res *service.Resources) (service.BatchOutput, service.BatchPolicy, int, error) {
			o, err := newOutput(p, res)
			return o, service.BatchPolicy{}, 1, err
		})
}

const description = `
Put it after an output that may refuse an event, as the last one of a ` + "`fallback`" + `, or behind a ` + "`switch`" + ` for events that a processor has failed on.
Each message is kept as it is, with why it failed, and the batch goes on. ` + "`deltaforge dlq list|show|replay|purge`" + ` works on the file.

` + "`deltaforge_kafka` and `deltaforge_redis`" + ` need no output of their own for this: their field ` + "`dead_letter`" + ` does the same for what they refuse.

== Delivery

A batch is acknowledged when it is on the disk. The event that comes again (the same ` + "`event_id`" + ` of the same source) replaces its entry, keeps its place, and counts one attempt more.

== What else it can do

With ` + "`output`" + ` the events go there instead of into a file, each as one JSON document: ` + "`kind`, `error`, `failed_at`, `pipeline`, `source`, `table`, `op`, `event_id`, `position`, `metadata`" + `, and the payload as
` + "`payload`" + `, or as ` + "`payload_base64`" + ` if it is not UTF-8. What becomes of them is then up to that output; ` + "`deltaforge dlq`" + ` does not see them.
`

func spec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Categories("Services").
		Version("0.1.0").
		Summary("Keeps events that could not be delivered, with their error, until a person has looked at them.").
		Description(description).
		Fields(deadletter.Fields()...).
		Field(service.NewOutputField(fieldOutput).Optional().
			Description("Where dead letters go instead of into a file. The bounds do not hold for it.")).
		Example("After Kafka", "What Kafka refuses for good is kept.", `
output:
  fallback:
    - deltaforge_kafka:
        seed_brokers: [ localhost:9092 ]
        topic_prefix: shop
    - deltaforge_dlq:
        path: /var/lib/deltaforge/dlq.db
`).
		Example("What a processor has failed on", "The events that a processor has marked as failed are kept, and the others go on.", `
output:
  switch:
    cases:
      - check: errored()
        output:
          deltaforge_dlq: {}
      - output:
          deltaforge_redis:
            url: redis://localhost:6379
            prefix: shop
`)
}

// output is the service.BatchOutput.
type output struct {
	pipeline string
	log      *service.Logger
	stats    *sink.Stats
	gate     sink.Gate
	dead     *deadletter.Letters
	other    *service.OwnedOutput // in place of dead; nil: none
}

func newOutput(p *service.ParsedConfig, res *service.Resources) (*output, error) {
	o := &output{pipeline: res.StreamID(), log: res.Logger(), stats: sink.NewStats(res.Metrics(), 0)}
	c, err := deadletter.Parse(p)
	if err != nil {
		return nil, fmt.Errorf("field %w", err)
	}
	if !p.Contains(fieldOutput) {
		o.dead = deadletter.New(c, res, o.stats)
		return o, nil
	}
	o.other, err = p.FieldOutput(fieldOutput)
	return o, err
}

const component = "dead letters"

// Connect opens the file. After WriteBatch could not keep a batch, the first call reports why.
func (o *output) Connect(ctx context.Context) error {
	return o.stats.Guard(o.log, component, func() error {
		if o.other == nil {
			if err := o.dead.Open(ctx); err != nil {
				o.stats.Failed(sink.KindOf(err))
				return err
			}
		}
		return o.gate.Pass()
	})
}

// WriteBatch keeps a batch. It returns ErrNotConnected when it is to be tried again.
func (o *output) WriteBatch(ctx context.Context, batch service.MessageBatch) error {
	return o.gate.Repeat(o.stats, o.log, component, func() error { return o.write(ctx, batch) }, func() {})
}

func (o *output) write(ctx context.Context, batch service.MessageBatch) error {
	change.Reached(batch)
	began := time.Now()
	defer func() { o.stats.Took(time.Since(began)) }()
	if o.other != nil {
		return o.pass(ctx, batch)
	}
	failed := make(map[int]error, len(batch))
	for i, m := range batch {
		failed[i] = deadletter.Cause(m)
	}
	if _, err := o.dead.Keep(ctx, batch, failed); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return o.gate.Shut(err)
	}
	o.gate.Open()
	o.stats.Written(batch)
	return nil
}

// document is a dead letter for another output.
type document struct {
	Kind     string            `json:"kind"`
	Error    string            `json:"error"`
	FailedAt time.Time         `json:"failed_at"`
	Pipeline string            `json:"pipeline,omitempty"`
	Source   string            `json:"source,omitempty"`
	Table    string            `json:"table,omitempty"`
	Op       string            `json:"op,omitempty"`
	EventID  string            `json:"event_id,omitempty"`
	Position string            `json:"position,omitempty"`
	Metadata map[string]string `json:"metadata"`
	Payload  *string           `json:"payload,omitempty"`
	Base64   []byte            `json:"payload_base64,omitempty"`
}

// pass hands a batch to the other output.
func (o *output) pass(ctx context.Context, batch service.MessageBatch) error {
	docs := make(service.MessageBatch, len(batch))
	for i, m := range batch {
		e, err := deadletter.NewEntry(m, deadletter.Cause(m))
		if err != nil {
			return sink.Errorf(sink.Serialization, "message %d: %w", i, err)
		}
		d := document{
			Kind: e.Kind, Error: e.Error, FailedAt: time.Now().UTC(), Pipeline: o.pipeline, Source: e.Source, Table: e.Table, Op: e.Op, EventID: e.EventID,
			Position: e.Position, Metadata: e.Metadata,
		}
		if utf8.Valid(e.Payload) {
			text := string(e.Payload)
			d.Payload = &text
		} else {
			d.Base64 = e.Payload
		}
		text, err := json.Marshal(d)
		if err != nil {
			return sink.Errorf(sink.Serialization, "message %d: %w", i, err)
		}
		docs[i] = service.NewMessage(text)
		for k, v := range e.Metadata {
			docs[i].MetaSetMut(k, v)
		}
	}
	if err := o.other.WriteBatch(ctx, docs); err != nil {
		return err
	}
	o.stats.Written(batch)
	return nil
}

// Close closes the file, or the other output.
func (o *output) Close(ctx context.Context) error {
	if o.other != nil {
		return o.other.Close(ctx)
	}
	return o.dead.Close()
}
