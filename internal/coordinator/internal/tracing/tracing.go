// Package tracing makes a span of each attempt at a batch.
package tracing

import (
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
)

// What a trace has. A span lasts from the moment that the oldest event of a batch was read to the answer of the output.
const (
	tracerName = "github.com/deltaforge/deltaforge"
	spanName   = "deltaforge.batch"

	attrSource   = attribute.Key("deltaforge.source")
	attrPosition = attribute.Key("deltaforge.position") // after the last event of the batch
	attrTables   = attribute.Key("deltaforge.tables")
	attrEvents   = attribute.Key("deltaforge.events")
	attrAttempt  = attribute.Key("deltaforge.attempt")
)

// Tracer makes the spans of a source. It belongs to the goroutine that hands out batches.
type Tracer struct {
	source string
	tracer trace.Tracer // nil: nobody collects spans
}

// New returns the tracer of a source.
func New(source string, res *service.Resources) *Tracer {
	return &Tracer{source, res.OtelTracer().Tracer(tracerName)}
}

// On reports whether spans are made, as far as is known.
func (t *Tracer) On() bool { return t.tracer != nil }

// Attempt is what a span says of a batch.
type Attempt struct {
	Position checkpoint.Token // after the last event
	Oldest   time.Time        // when the oldest event was read
	N        int              // counts the attempts
}

// Start begins the span of an attempt and makes it the parent of the engine's spans of the messages. The first span tells
// whether anybody collects them. If it has no identity, nobody does, and no further spans are made. (A span that a sampler
// rejects has an identity.) The span is nil when none is made.
func (t *Tracer) Start(a Attempt, messages service.MessageBatch) trace.Span {
	if t.tracer == nil {
		return nil
	}
	// The batch begins its own trace: a context of the message is at hand, and carries no span.
	ctx, span := t.tracer.Start(messages[0].Context(), spanName, trace.WithTimestamp(a.Oldest),
		trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
			attrSource.String(t.source), attrPosition.String(a.Position.String()), attrTables.StringSlice(tablesOf(messages)),
			attrEvents.Int(len(messages)), attrAttempt.Int(a.N)))
	if !span.SpanContext().IsValid() {
		t.tracer = nil
		return nil
	}
	shared := lasting{trace.SpanFromContext(ctx)}
	for i, m := range messages {
		messages[i] = m.WithContext(trace.ContextWithSpan(m.Context(), shared))
	}
	return span
}

// End ends a span, unless it is nil, with the answer of the output.
func End(span trace.Span, err error) {
	if span == nil {
		return
	}
	if err != nil {
		span.RecordError(err)
		span.SetStatus(codes.Error, "rejected by the output")
	}
	span.End()
}

// lasting is a span that only its owner ends: the engine ends the spans of messages before it acknowledges them.
type lasting struct{ trace.Span }

// End does nothing.
func (lasting) End(...trace.SpanEndOption) {}

// tablesOf returns the tables of a batch, sorted.
func tablesOf(messages service.MessageBatch) []string {
	var last *change.Table
	var names []string
	for _, m := range messages {
		if ev, ok := change.Own(m); ok && ev.Table != last {
			last = ev.Table
			names = append(names, last.FullName())
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
