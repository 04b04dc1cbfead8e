package kafkaout

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/deltaforge/deltaforge/internal/sink"
)

// attempt is the delivery of one batch. It outlives the call that began it when the broker is away: the engine is told
// that the output is not connected, hands in the same batch again, and the call finds the attempt where it was left.
// So records that the broker already has are not sent a second time, and those whose fate is unknown are left to the
// client, which alone can repeat them without making duplicates (same producer id, same sequence).
//
// # Order within a partition
//
// A later record must not be written while an earlier one has failed and waits for another try. What holds:
//
//   - The client fails everything that it has buffered for a partition when one batch of it fails
//     (kgo, "gapless ordering"), and the broker refuses the following batches that are already on the way, because
//     their sequence numbers leave a gap. But records given to the client after the failure would be sent.
//   - So a segment is handed over completely before anything of it is sent: the client flushes only when told to
//     (kgo.ManualFlushing). What fails of a segment is therefore, in each partition, a suffix of it.
//   - Handed over is not enough: records of a topic that the client has not loaded yet get their partitions later, one
//     after the other, and a flush meanwhile would send the first of them alone. So the flush waits until the client shows
//     the topic's partitions, which it does when these records lie in their queues.
//   - Nothing after a segment is handed over before every record of the segment has an outcome, and failed records go
//     back to the front. The client has no retry limit and no delivery timeout, so it gives up on a record only when
//     the broker refuses it or the topic is unknown.
//   - With max_in_flight: 1 no other batch is written meanwhile: a failure that may pass is answered with
//     ErrNotConnected, upon which the engine repeats this batch before it takes the next.
type attempt struct {
	recs     []kgo.Record
	msgs     []int32 // msgs[i]: which message of the batch recs[i] belongs to
	sizes    []int32 // sizes[i]: bytes of key, value and headers of recs[i]
	headers  []kgo.RecordHeader
	text     []byte // of keys and headers that a message does not have as bytes
	messages int
	ids      [2][]byte // event ids of the first and of the last message: a payload need not tell two batches apart

	failed map[int]error // messages that failed for good
	work   []segment     // what has to be sent, first first
	held   segment       // what waits for its topic to exist
	sent   segment       // what the client was handed and has not been harvested; nil when there is none

	gone map[string]bool // topics that were gone when the outcome of their records did not come

	pending atomic.Int64  // records of sent without an outcome, plus one while handing over
	settled chan struct{} // capacity 1; receives when pending falls to 0

	mu     sync.Mutex
	errs   map[*kgo.Record]error // outcomes of sent that are failures; guarded by mu
	finish func(*kgo.Record, error)
}

// segment is a list of indexes into recs, in order.
type segment []int32

func newAttempt() *attempt {
	a := &attempt{settled: make(chan struct{}, 1)}
	a.finish = a.outcome
	return a
}

// reset prepares a new or dropped attempt for a batch.
func (a *attempt) reset(messages int, tombstones bool) {
	n := messages
	if tombstones {
		n *= 2
	}
	if cap(a.recs) < n {
		a.recs = make([]kgo.Record, 0, n)
	}
	a.messages, a.failed, a.work, a.held, a.sent, a.errs, a.gone = messages, nil, nil, nil, nil, nil, nil
}

// drop lets go of the batch, so that an attempt kept for reuse holds no payload.
func (a *attempt) drop() {
	clear(a.recs)
	clear(a.headers)
	a.ids = [2][]byte{}
	a.recs, a.msgs, a.sizes, a.headers, a.text = a.recs[:0], a.msgs[:0], a.sizes[:0], a.headers[:0], a.text[:0]
}

func (a *attempt) add(message, size int, r kgo.Record) {
	a.recs = append(a.recs, r)
	a.msgs = append(a.msgs, int32(message))
	a.sizes = append(a.sizes, int32(size))
}

func (a *attempt) fail(message int, err error) {
	if a.failed == nil {
		a.failed = make(map[int]error)
	}
	if a.failed[message] == nil {
		a.failed[message] = err
	}
}

// plan cuts the records into segments of at most limit bytes.
func (a *attempt) plan(limit int) {
	all := make(segment, len(a.recs))
	start, size := 0, 0
	for i := range a.recs {
		all[i] = int32(i)
		if size += int(a.sizes[i]); size > limit && i > start {
			a.work = append(a.work, all[start:i:i])
			start, size = i, int(a.sizes[i])
		}
	}
	if start < len(all) {
		a.work = append(a.work, all[start:])
	}
}

// same says whether b holds exactly the records of a, so that delivering a delivers b.
func (a *attempt) same(b *attempt) bool {
	if len(a.recs) != len(b.recs) || a.messages != b.messages ||
		!bytes.Equal(a.ids[0], b.ids[0]) || !bytes.Equal(a.ids[1], b.ids[1]) {
		return false
	}
	for i := range a.recs {
		x, y := &a.recs[i], &b.recs[i]
		if a.msgs[i] != b.msgs[i] || x.Topic != y.Topic || len(x.Headers) != len(y.Headers) ||
			(x.Key == nil) != (y.Key == nil) || (x.Value == nil) != (y.Value == nil) ||
			!bytes.Equal(x.Key, y.Key) || !sameBytes(x.Value, y.Value) {
			return false
		}
		for j := range x.Headers {
			if x.Headers[j].Key != y.Headers[j].Key || !bytes.Equal(x.Headers[j].Value, y.Headers[j].Value) {
				return false
			}
		}
	}
	return true
}

// sameBytes compares payloads, which in the expected case are the same memory.
func sameBytes(x, y []byte) bool {
	return len(x) == len(y) && (unsafe.SliceData(x) == unsafe.SliceData(y) || bytes.Equal(x, y))
}

// outcome is called by the client, from one goroutine, once for every record handed to it. That is too often for a guard, and
// there is nothing in it that can panic: it counts, writes to a map that it has made, and sends on a channel that nobody
// closes.
func (a *attempt) outcome(r *kgo.Record, err error) {
	if err != nil {
		a.mu.Lock()
		if a.errs == nil {
			a.errs = make(map[*kgo.Record]error)
		}
		a.errs[r] = err
		a.mu.Unlock()
	}
	if a.pending.Add(-1) == 0 {
		a.settled <- struct{}{}
	}
}

// handOver gives the next segment to the client, which sends nothing of it before it is flushed.
func (a *attempt) handOver(ctx context.Context, cl *kgo.Client) {
	seg := a.work[0]
	a.work = a.work[1:]
	a.pending.Store(1)
	live := seg[:0:len(seg)]
	for _, i := range seg {
		// A tombstone does not go out without its delete.
		if a.failed != nil && a.failed[int(a.msgs[i])] != nil {
			continue
		}
		live = append(live, i)
		a.pending.Add(1)
		r := &a.recs[i]
		r.Context = ctx //nolint:fatcontext // the same for each
		cl.Produce(ctx, r, a.finish)
	}
	a.sent = live
	if a.pending.Add(-1) == 0 {
		a.settled <- struct{}{}
	}
}

// partition identifies a partition of a topic.
type partition struct {
	topic string
	id    int32
}

// harvest sorts out a settled segment. Records of failures that may pass go back to the front of the work, and the
// first such failure is returned. Where the broker refuses records for what they are, the refused suffix of the
// partition is cut in half until the culprit is alone: then its message has failed and the others go on. If beyond
// knows which limit a record exceeds, the culprits are known at once.
func (a *attempt) harvest(beyond func(r *kgo.Record, size int) *sink.Error) error {
	sent, errs := a.sent, a.errs
	a.sent, a.errs = nil, nil
	if len(errs) == 0 {
		return nil
	}
	var again error
	var retry segment
	var order []partition
	refused := make(map[partition]segment)
	for _, i := range sent {
		r := &a.recs[i]
		cause := errs[r]
		if cause == nil {
			continue
		}
		err := classify(cause, "topic "+r.Topic)
		if !permanent(err.Kind, cause) {
			if again == nil {
				again = err
			}
			retry = append(retry, i)
			continue
		}
		p := partition{r.Topic, r.Partition}
		if refused[p] == nil {
			order = append(order, p)
		}
		refused[p] = append(refused[p], i)
	}
	var front []segment
	if len(retry) > 0 {
		front = append(front, retry)
	}
	for _, p := range order {
		front = append(front, a.isolate(p, refused[p], errs, beyond)...)
	}
	a.renew(front)
	a.work = append(front, a.work...)
	return again
}

// isolate returns what is to be sent again of the suffix of a partition that the broker has refused.
func (a *attempt) isolate(p partition, seg segment, errs map[*kgo.Record]error, beyond func(*kgo.Record, int) *sink.Error) []segment {
	kept := make(segment, 0, len(seg))
	for _, i := range seg {
		if err := beyond(&a.recs[i], int(a.sizes[i])); err != nil {
			a.fail(int(a.msgs[i]), err)
			continue
		}
		kept = append(kept, i)
	}
	switch {
	case len(kept) == 0:
		return nil
	case len(kept) < len(seg):
		return []segment{kept} // in which there may be more, that beyond does not know of
	case len(seg) == 1:
		a.fail(int(a.msgs[seg[0]]), classify(errs[&a.recs[seg[0]]], "topic "+p.topic))
		return nil
	}
	half := len(seg) / 2
	return []segment{seg[:half:half], seg[half:]}
}

// renew makes records fit to be handed over again: the client leaves its own fields in them.
func (a *attempt) renew(segs []segment) {
	for _, seg := range segs {
		for _, i := range seg {
			r := &a.recs[i]
			*r = kgo.Record{Topic: r.Topic, Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: r.Timestamp}
		}
	}
}

// delivered counts the messages that were written, with their bytes. It is asked when no work is left.
func (a *attempt) delivered() (messages int, size int64) {
	last := int32(-1)
	for i, m := range a.msgs {
		if a.failed != nil && a.failed[int(m)] != nil {
			continue
		}
		size += int64(a.sizes[i])
		if m != last {
			messages++
			last = m
		}
	}
	return messages, size
}

// release puts what was held back in front of the work, to have its topics looked at again.
func (a *attempt) release() {
	if len(a.held) > 0 {
		a.work = append([]segment{a.held}, a.work...)
		a.held = nil
	}
}

// hold takes the records of the given topics out of the work. It takes all records of these topics, so that every
// partition stays in order.
func (a *attempt) hold(topics map[string]error) {
	for s, seg := range a.work {
		kept := make(segment, 0, len(seg))
		for _, i := range seg {
			if _, bad := topics[a.recs[i].Topic]; bad {
				a.held = append(a.held, i)
			} else {
				kept = append(kept, i)
			}
		}
		a.work[s] = kept
	}
}

// refuse fails the messages whose topics can never be.
func (a *attempt) refuse(topics map[string]error) {
	for _, seg := range a.work {
		for _, i := range seg {
			if err := topics[a.recs[i].Topic]; err != nil {
				a.fail(int(a.msgs[i]), err)
			}
		}
	}
}

// eachTopic calls fn for the topics of segments, at least once each.
func (a *attempt) eachTopic(segs []segment, fn func(string)) {
	last := ""
	for _, seg := range segs {
		for _, i := range seg {
			if t := a.recs[i].Topic; t != last {
				fn(t)
				last = t
			}
		}
	}
}
