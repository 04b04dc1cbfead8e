package main

import (
	"fmt"

	"github.com/redpanda-data/benthos/v4/public/bloblang"
	"github.com/redpanda-data/benthos/v4/public/service"
)

// tenants knows the tenant of each pipeline as the metrics page has it: by `metrics.mapping`, else by the field of the
// exporter.
type tenants struct {
	otherwise string
	streams   bool               // pipelines are streams, and so the engine's label of their stats
	mapping   *bloblang.Executor // nil: none
}

func newTenants(otherwise, mapping string, streams bool) (t tenants, err error) {
	t.otherwise, t.streams = otherwise, streams
	if mapping == "" {
		return t, nil
	}
	if t.mapping, err = bloblang.Parse(mapping); err != nil {
		return t, fmt.Errorf("metrics.mapping: %w", err)
	}
	return t, nil
}

// of returns the tenant of a pipeline. It may be called from any goroutine.
func (t tenants) of(pipeline string) string {
	if t.mapping == nil {
		return t.otherwise
	}
	// As the engine calls it: the content is the name of a stat, metadata are its labels.
	m := service.NewMessage(nil)
	m.SetStructured("pipeline_status")
	if t.streams {
		m.MetaSetMut("stream", pipeline)
	}
	mapped, err := m.BloblangQuery(t.mapping)
	if err != nil || mapped == nil {
		return t.otherwise
	}
	if tenant, ok := mapped.MetaGet("tenant"); ok && tenant != "" {
		return tenant
	}
	return t.otherwise
}
