package plane

import "time"

// SnapshotRequest is what a person asks of the snapshots of a source.
type SnapshotRequest struct {
	// Action is start, pause, resume or stop; empty: nothing but the status.
	Action string `json:"action"`
	// Tables are full names, or patterns as in tables.include; none: all that are meant by the configuration (start), or all whose
	// snapshot is under way (stop).
	Tables []string `json:"tables,omitempty"`
	// Where is a condition in SQL for the rows that are loaded; empty: that of the configuration.
	Where string `json:"where,omitempty"`
}

// SnapshotStatus is how the snapshots of a source are.
type SnapshotStatus struct {
	Paused bool            `json:"paused"`
	Tables []TableSnapshot `json:"tables"`
	// Lost is the newest loss of the position after which the tables were loaded again; nil: there was none.
	Lost *LostPosition `json:"lost,omitempty"`
}

// LostPosition is what a source has passed over: the log did not have it any more. What was deleted in between is not known.
type LostPosition struct {
	At time.Time `json:"at"`
	// From is the position that was lost; empty: none was saved. To is where the source has begun anew; empty: it has not yet.
	From string `json:"from"`
	To   string `json:"to"`
	// Why says how it was lost.
	Why string `json:"why"`
}

// TableSnapshot is how the snapshot of a table is.
type TableSnapshot struct {
	Table string `json:"table"`
	// State is waiting, loading, done, stopped or gone.
	State string `json:"state"`
	// Rows are delivered and acknowledged.
	Rows int64 `json:"rows"`
	// Estimate is how many rows the server took the table to have at the start; -1: unknown.
	Estimate int64 `json:"estimate"`
	// Ratio is how much is delivered, 0 to 1, by the estimate.
	Ratio float64 `json:"ratio"`
	// Seconds is how long it took, or has taken so far.
	Seconds float64 `json:"seconds"`
	// Problem is why it does not go on at present, with the way out.
	Problem string `json:"problem,omitempty"`
}
