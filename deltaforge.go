// Package deltaforge registers every DeltaForge component with Benthos.
//
// Import it for its side effect in any Benthos or Redpanda Connect build:
//
//	import _ "github.com/deltaforge/deltaforge"
package deltaforge

import (
	// Each of these registers its component.
	_ "github.com/deltaforge/deltaforge/checkpoint"
	_ "github.com/deltaforge/deltaforge/inputs/mysqlcdc"
	_ "github.com/deltaforge/deltaforge/inputs/postgrescdc"
	_ "github.com/deltaforge/deltaforge/metrics"
	_ "github.com/deltaforge/deltaforge/outputs/dlqout"
	_ "github.com/deltaforge/deltaforge/outputs/fanoutout"
	_ "github.com/deltaforge/deltaforge/outputs/kafkaout"
	_ "github.com/deltaforge/deltaforge/outputs/redisout"
	_ "github.com/deltaforge/deltaforge/processors/columns"
	_ "github.com/deltaforge/deltaforge/processors/filter"
	_ "github.com/deltaforge/deltaforge/processors/flatten"
	_ "github.com/deltaforge/deltaforge/processors/format"
	_ "github.com/deltaforge/deltaforge/processors/javascript"
	_ "github.com/deltaforge/deltaforge/processors/outbox"
	_ "github.com/deltaforge/deltaforge/processors/reselect"
	_ "github.com/deltaforge/deltaforge/processors/route"
)

//go:generate go run ./internal/docgen docs/reference
