package plane

import "context"

// Handover is the place of another reader of the same log, which a source takes over. Give it to a connection test (WithHandover), which then
// tests nothing, and changes nothing on the server.
type Handover struct {
	// Offset is what a connector of Debezium has saved, a JSON object.
	Offset []byte
	// Add is called with the record of the position that it is, on the goroutine of the test.
	Add func(source string, record []byte)
}

type handoverKey struct{}

// WithHandover returns a context with which a connection test of our sources is a Handover instead.
func WithHandover(ctx context.Context, h *Handover) context.Context {
	return context.WithValue(ctx, handoverKey{}, h)
}

// HandoverOf returns the Handover that a connection test is to do; nil: none, it is a test.
func HandoverOf(ctx context.Context) *Handover {
	h, _ := ctx.Value(handoverKey{}).(*Handover)
	return h
}
