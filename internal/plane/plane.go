// Package plane is the contract between a source and the control plane of its process, which do not know each other. A source finds
// the control plane among the engine's generic values and attaches itself; the control plane tells it when its pipeline is paused, and
// asks it how it is.
package plane

import "time"

// Key is where a source finds the Registry (service.Resources.GetGeneric). There is none where our binary does not run.
const Key = "deltaforge.sources"

// Registry is the control plane as a source sees it.
type Registry interface {
	// Attach is called by a source when it first connects, from any goroutine. The pipeline is Resources.StreamID. Detach is called
	// once, when the source closes.
	Attach(pipeline, source string, s Source) (gate Gate, detach func())
}

// Gate is asked before a batch is handed to the pipeline. While paused is true the source keeps its connection and hands over nothing;
// changed is closed at the next change.
type Gate func() (paused bool, changed <-chan struct{})

// Source is a source as the control plane sees it. Its functions do not block, and are called from any goroutine.
type Source struct {
	// Report says how the source is, and sets those of its series that move with the clock. The control plane calls it about once a
	// second, also after detach, so that a pipeline that is stopped or failed keeps a lag that grows: until another source of the pipeline
	// attaches, or the pipeline is deleted.
	Report func() Report
	// Snapshot carries out a request, and returns how the snapshots are then. It is nil where the source loads no tables. An error
	// says what is wrong with the request.
	Snapshot func(SnapshotRequest) (SnapshotStatus, error)
	// Withdraw takes the series that Report sets off the metrics page. It is called once, after detach, when Report is not called any
	// more.
	Withdraw func()
}

// State is what becomes of a source.
type State string

// The states.
const (
	// Running is a source that reads, and whose output takes what it reads. A source that has not connected for the first time is
	// running too, until it has failed to.
	Running State = "running"
	// Retrying is one that cannot go on and tries again by itself: the source cannot be read, the output refuses a batch or does not
	// answer, positions cannot be saved. Its pipeline is not ready.
	Retrying State = "retrying"
	// Failed is one that needs a person, or has been retrying in one place for longer than a bound. Its pipeline is failed.
	Failed State = "failed"
	// Closed is one that was closed; Position and the lags are what it left behind.
	Closed State = "closed"
)

// Report is the word of a source.
type Report struct {
	// Position is the newest position before which everything is delivered; empty: none is known.
	Position string
	// LagSeconds is the age of the oldest commit that is not delivered and saved; negative: unknown.
	LagSeconds float64
	// LagBytes is how much of the server's log is after the saved position; negative: unknown.
	LagBytes int64
	State    State
	// Cause says why State is Retrying or Failed: the error, with the way out where one is known. It holds no secret.
	Cause string
	// Since is when State began. Zero while Running.
	Since time.Time
}
