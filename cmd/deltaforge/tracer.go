package main

import (
	"context"

	"github.com/redpanda-data/benthos/v4/public/service"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/embedded"
	"go.opentelemetry.io/otel/trace/noop"
)

// noTracer is the default tracer. The engine begins two spans for each message, and its own default puts each into a new
// context. This one leaves contexts as they are, which saves two allocations a message.
const noTracer = "deltaforge_none"

func init() {
	service.MustRegisterOtelTracerProvider(noTracer, service.NewConfigSpec().
		Summary("Do not send tracing events anywhere, and spend nothing on them.").
		Field(service.NewObjectField("").Default(map[string]any{})),
		func(*service.ParsedConfig) (trace.TracerProvider, error) { return silentProvider{}, nil })
}

type silentProvider struct{ embedded.TracerProvider }

// Tracer implements trace.TracerProvider.
func (silentProvider) Tracer(string, ...trace.TracerOption) trace.Tracer { return silentTracer{} }

type silentTracer struct{ embedded.Tracer }

// Start implements trace.Tracer.
func (silentTracer) Start(ctx context.Context, _ string, _ ...trace.SpanStartOption) (context.Context, trace.Span) {
	return ctx, noop.Span{}
}
