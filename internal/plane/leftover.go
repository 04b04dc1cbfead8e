package plane

import "context"

// Leftover is something that a source has made on its server and that stays there when its pipeline is deleted.
type Leftover struct {
	What    string // for a person: `the replication slot shop in the database orders, for which the server keeps its log`
	How     string // the statement that drops it
	Dropped bool
}

// Cleanup asks the sources of a configuration for their leftovers. Give it to a connection test (WithCleanup), which then tests nothing.
// The pipeline must have stopped: its source holds what is to be dropped.
type Cleanup struct {
	// Drop drops them too. Without it nothing is connected to.
	Drop bool
	// Add is called with each of them, on the goroutine of the test.
	Add func(source string, l Leftover)
}

type cleanupKey struct{}

// WithCleanup returns a context with which a connection test of our sources is a Cleanup instead. Other components do not look at it:
// test inputs only. The result of the test says whether everything was dropped that was asked for; a source that leaves nothing
// behind succeeds.
func WithCleanup(ctx context.Context, c *Cleanup) context.Context {
	return context.WithValue(ctx, cleanupKey{}, c)
}

// CleanupOf returns the Cleanup that a connection test is to do; nil: none, it is a test.
func CleanupOf(ctx context.Context) *Cleanup {
	c, _ := ctx.Value(cleanupKey{}).(*Cleanup)
	return c
}
