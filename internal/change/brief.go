package change

import "github.com/redpanda-data/benthos/v4/public/service"

// Brief makes messages of images whose memory is used again for those of the next row. It is used by one goroutine.
type Brief struct {
	encoder Encoder
	pairs   [1]Pair
	images  *ImageSet // of pairs
}

// NewBrief returns one for the messages of an encoder.
func NewBrief(e Encoder) *Brief {
	b := &Brief{encoder: e}
	b.images = ImageSetOf(b.pairs[:])
	return b
}

// AppendMessage appends the message of an event with these images, see Encoder. The caller gives the event images that stay, afterwards. It
// returns false where an event has other messages than one of its own: they may keep the images.
func (b *Brief) AppendMessage(dst service.MessageBatch, buf []byte, ev *Event, p Pair) (_ service.MessageBatch, _ []byte, ok bool) {
	b.pairs[0] = p
	ev.Images = b.images.At(0)
	made, buf := b.encoder.AppendMessages(dst, buf, ev)
	if len(made) != len(dst)+1 {
		return dst, buf, false
	}
	own, ok := FromMessage(made[len(dst)])
	return made, buf, ok && own == ev
}
