package coordinator

import (
	"context"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/redpanda-data/benthos/v4/public/service"

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

// startSpan begins the span of an attempt and makes it the parent of the engine's spans of the messages. The first span tells
// whether anybody collects them. If it has no identity, nobody does, and no further spans are made. (A span that a sampler
// rejects has an identity.)
func (a *attempt) startSpan(in *Input, messages service.MessageBatch) {
	if in.tracer == nil {
		return
	}
	b := a.dl.batch
	var ctx context.Context
	// The batch begins its own trace: a context of the message is at hand, and carries no span.
	ctx, a.span = in.tracer.Start(messages[0].Context(), spanName, trace.WithTimestamp(b.oldest),
		trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
			attrSource.String(in.cfg.Name), attrPosition.String(b.end.token.String()), attrTables.StringSlice(tablesOf(messages)),
			attrEvents.Int(len(messages)), attrAttempt.Int(a.n)))
	if !a.span.SpanContext().IsValid() {
		in.tracer, a.span = nil, nil
		return
	}
	shared := lasting{trace.SpanFromContext(ctx)}
	for i, m := range messages {
		messages[i] = m.WithContext(trace.ContextWithSpan(m.Context(), shared))
	}
}

// endSpan ends the span with the answer of the output.
func (a *attempt) endSpan(err error) {
	if a.span == nil {
		return
	}
	if err != nil {
		a.span.RecordError(err)
		a.span.SetStatus(codes.Error, "rejected by the output")
	}
	a.span.End()
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
		if ev, ok := change.FromMessage(m); ok && ev.Table != last {
			last = ev.Table
			names = append(names, last.FullName())
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
