package change

import (
	"context"
	"maps"
	"reflect"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// The engine makes a message out of three objects and a map, and copies a map entry by entry. At a million rows a second
// that is a third of all work, so where the engine's message has exactly the fields that are written down here, messages
// are laid out by this file: many in one allocation, their metadata cloned as a block. Where it has not, in another version
// of the engine, sameLayout says so and messages are made through the engine's public functions, see Maker.

type engineMessage struct {
	part  *enginePart
	onErr func(err error)
}

type enginePart struct {
	data *engineData
	ctx  context.Context //nolint:containedctx // the engine's
}

type engineData struct {
	rawBytes           []byte
	err                error
	readOnlyStructured atomic.Bool
	structured         any
	readOnlyMeta       atomic.Bool
	metadata           map[string]engineValue
}

type engineValue struct {
	v         any
	immutable bool
}

// engineKnown reports whether the engine's message is laid out as engineMessage.
var engineKnown = sync.OnceValue(func() bool { //nolint:gochecknoglobals // computed once, never changed
	return sameLayout(reflect.TypeFor[service.Message](), reflect.TypeFor[engineMessage]())
})

// sameLayout reports whether two types are the same but for the names of the types that they are made of.
func sameLayout(a, b reflect.Type) bool {
	if a == b {
		return true
	}
	if a.Kind() != b.Kind() || a.Size() != b.Size() || a.Align() != b.Align() {
		return false
	}
	switch a.Kind() {
	case reflect.Pointer:
		return sameLayout(a.Elem(), b.Elem())
	case reflect.Map:
		return a.Key() == b.Key() && sameLayout(a.Elem(), b.Elem())
	case reflect.Struct:
		if a.NumField() != b.NumField() {
			return false
		}
		for i := range a.NumField() {
			x, y := a.Field(i), b.Field(i)
			if x.Name != y.Name || x.Offset != y.Offset || !sameLayout(x.Type, y.Type) {
				return false
			}
		}
		return true
	default: // anything else is the same type, or unknown
		return false
	}
}

// engineMetadata returns the map of a message, which belongs to the message alone once something was set. Only for a
// known engine.
func engineMetadata(m *service.Message) map[string]engineValue {
	return (*engineMessage)(unsafe.Pointer(m)).part.data.metadata
}

// cell is a message and its parts in one piece.
type cell struct {
	message engineMessage
	part    enginePart
	data    engineData
}

// maxCells bounds the messages of one allocation: none of them is free before all are.
const maxCells = 64

// cells allocates messages.
type cells struct {
	free []cell
	size int
}

// message returns a new message. Metadata is kept, and must be nobody else's. Only for a known engine.
func (c *cells) message(ctx context.Context, payload []byte, metadata map[string]engineValue) *service.Message {
	if len(c.free) == 0 {
		c.size = min(max(1, 2*c.size), maxCells)
		c.free = make([]cell, c.size)
	}
	x := &c.free[0]
	c.free = c.free[1:]
	x.data.rawBytes, x.data.metadata = payload, metadata
	x.part.data, x.part.ctx = &x.data, ctx
	x.message.part = &x.part
	return (*service.Message)(unsafe.Pointer(&x.message))
}

// cloneMetadata returns a copy of a map, block by block.
func cloneMetadata(m map[string]engineValue) map[string]engineValue { return maps.Clone(m) }
