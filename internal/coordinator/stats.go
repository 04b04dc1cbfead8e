package coordinator

import (
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/fault"
)

// The stages of stage_latency_seconds that the coordinator sees.
const (
	stageDecode  = "decode"  // decoding the segments of a batch, all workers added up
	stageBatch   = "batch"   // from the first event in a batch to the cut
	stageProcess = "process" // from the hand-over to the pipeline to an output of ours
	stageDeliver = "deliver" // from there, or without one from the hand-over, to the acknowledgement
	stageCommit  = "commit"  // from the first unsaved acknowledgement to the save
)

// What cut a batch.
const (
	triggerEvents      = "events"
	triggerBytes       = "bytes"
	triggerTimer       = "timer"
	triggerTransaction = "transaction" // a transaction ended and nothing more was there
	triggerNone        = ""            // the stage belongs to no single batch
)

// stats are the coordinator's numbers, under the names of the metrics reference.
type stats struct {
	panics *service.MetricCounter
	// Where there is no control plane, which otherwise sets them.
	pipelineStatus *service.MetricGauge
	pipelineInfo   *service.MetricGauge

	sourceEvents     *service.MetricCounter
	sourceBytes      *service.MetricCounter
	sourceReconnects *service.MetricCounter
	sourceErrors     *service.MetricCounter

	batchEvents     *service.MetricTimer
	batchBytes      *service.MetricTimer
	bytesTotal      *service.MetricCounter
	stageLatency    *service.MetricTimer
	channelDepth    *service.MetricGauge
	channelCapacity *service.MetricGauge
	inFlight        *service.MetricGauge
	e2e             *service.MetricTimer

	snapshotRows  *service.MetricCounter
	snapshotRatio *service.MetricGauge

	checkpointSuccess *service.MetricCounter
	checkpointFailure *service.MetricCounter
	checkpointLatency *service.MetricTimer
	lastCheckpoint    *service.MetricGauge
}

func newStats(m *service.Metrics, source string) *stats {
	s := &stats{
		panics:            m.NewCounter("panics_total", "component"),
		pipelineStatus:    m.NewGauge("pipeline_status"),
		pipelineInfo:      m.NewGauge("pipeline_info", "source_type"),
		sourceEvents:      m.NewCounter("source_events_total", "table", "op"),
		sourceBytes:       m.NewCounter("source_bytes_total"),
		sourceReconnects:  m.NewCounter("source_reconnects_total"),
		sourceErrors:      m.NewCounter("source_errors_total", "kind"),
		batchEvents:       m.NewTimer("batch_events"),
		batchBytes:        m.NewTimer("batch_bytes"),
		bytesTotal:        m.NewCounter("bytes_total"),
		stageLatency:      m.NewTimer("stage_latency_ns", "stage", "trigger"),
		channelDepth:      m.NewGauge("pipeline_channel_depth"),
		channelCapacity:   m.NewGauge("pipeline_channel_capacity"),
		inFlight:          m.NewGauge("batches_in_flight"),
		e2e:               m.NewTimer("e2e_latency_ns"),
		snapshotRows:      m.NewCounter("snapshot_rows_total", "table"),
		snapshotRatio:     m.NewGauge("snapshot_progress_ratio", "table"),
		checkpointSuccess: m.NewCounter("checkpoint_success_total"),
		checkpointFailure: m.NewCounter("checkpoint_failure_total"),
		checkpointLatency: m.NewTimer("checkpoint_latency_ns"),
		lastCheckpoint:    m.NewGauge("last_checkpoint_timestamp_seconds"),
	}
	m.NewGauge("source_info", "source").Set(1, source) // by it our exporter knows the name of everything that this input counts
	s.zero()
	return s
}

// zero makes the series of what should not happen exist before it does, so that its first time is an increase.
func (s *stats) zero() {
	for _, kind := range fault.Kinds() {
		s.sourceErrors.Incr(0, string(kind))
	}
	for _, c := range []*service.MetricCounter{
		s.sourceBytes, s.sourceReconnects, s.bytesTotal, s.checkpointSuccess, s.checkpointFailure,
	} {
		c.Incr(0)
	}
}

func (s *stats) stage(stage, trigger string, d time.Duration) {
	s.stageLatency.Timing(max(0, d.Nanoseconds()), stage, trigger) // a clock may have been set back
}
