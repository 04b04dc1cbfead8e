package coordinator

import (
	"slices"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
)

// quiet is how long the log must have nothing to give before a batch goes out without being full. It is longer than the
// pause between two reads of a busy log, and far shorter than anybody's idea of latency. Such a batch also waits until the
// pipeline asks for one: meanwhile it can grow.
const quiet = 1200 * time.Microsecond

// batch is a batch on its way to the pipeline.
type batch struct {
	messages service.MessageBatch
	token    checkpoint.Token // behind its last event
	oldest   time.Time        // when its first event was read
	tracked  *checkpoint.Pending
	trigger  string // what cut it
}

// txEnd is the end of a transaction among the messages that a batcher holds.
type txEnd struct {
	n      int // messages before it
	commit checkpoint.Position
}

// batcher gathers decoded segments and cuts them into batches, from the front of what it holds.
type batcher struct {
	s   *session
	in  *Input
	src string // identity of the server

	messages service.MessageBatch
	sizes    []int   // payload bytes of each message
	bytes    int     // their sum
	ends     []txEnd // transactions that are complete, oldest first
	kinds    tally
	took     time.Duration
	since    time.Time           // when the first message came, or when the batch before it was taken
	base     checkpoint.Position // newest commit before the first message
	still    bool                // the log has been quiet since the last message
	due      time.Time           // since when what there is waits only for the pipeline; zero: it does not
}

func newBatcher(s *session) *batcher {
	return &batcher{s: s, in: s.in, src: s.from.Source, base: s.from.Commit, kinds: tally{index: map[kind]int{}}}
}

// run takes the lanes' output in order until the session ends.
func (b *batcher) run(lanes []lane) error {
	b.in.st.channelCapacity.Set(int64(2 * b.in.cfg.MaxEvents)) // one batch waiting, one being filled
	b.in.st.channelDepth.Set(0)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for n := 0; ; {
		var wait <-chan time.Time
		if b.whole() > 0 && !b.still {
			timer.Reset(min(quiet, b.in.cfg.MaxWait))
			wait = timer.C
		}
		select {
		case d := <-lanes[n].out:
			if n++; n == len(lanes) {
				n = 0
			}
			b.still = false
			b.add(d)
		case <-wait:
			b.still = true
			b.waits(time.Now())
		case <-b.s.asked:
		case <-b.s.ctx.Done():
			return nil
		}
		if !b.cutDue() {
			return nil
		}
	}
}

// add takes a decoded group in.
func (b *batcher) add(d decoded) {
	if len(d.messages) > 0 {
		if len(b.messages) == 0 {
			b.since = time.Now()
		}
		b.took += d.took
		b.count(d)
		b.s.wait(len(d.messages))
	}
	from := 0
	for i := range d.segments {
		seg, to := &d.segments[i], from+d.counts[i]
		if seg.Source != "" {
			b.src = seg.Source
		}
		b.messages = append(b.messages, d.messages[from:to]...)
		b.sizes = append(b.sizes, d.sizes[from:to]...)
		for _, size := range d.sizes[from:to] {
			b.bytes += size
		}
		from = to
		b.end(seg.Commit)
	}
}

// end notes that a transaction ends behind the messages, unless commit is nil.
func (b *batcher) end(commit checkpoint.Position) {
	switch {
	case commit == nil:
	case len(b.messages) == 0:
		// Nothing to deliver: the position moves once everything before it is acknowledged.
		b.base = commit
		b.s.deliver.passed(checkpoint.Token{Source: b.src, Commit: commit})
	case len(b.ends) > 0 && b.ends[len(b.ends)-1].n == len(b.messages):
		b.ends[len(b.ends)-1].commit = commit
	default:
		b.ends = append(b.ends, txEnd{n: len(b.messages), commit: commit})
	}
}

// count adds a group's events to source_events_total, once for each table and operation: the engine's counters cost more than
// a row does.
func (b *batcher) count(d decoded) {
	from := 0
	for i, n := range d.counts {
		for _, m := range d.messages[from : from+n] {
			if ev, ok := change.FromMessage(m); ok {
				b.kinds.add(ev, i)
			}
		}
		from += n
	}
	for _, k := range b.kinds.take() {
		b.in.st.sourceEvents.Incr(k.n, k.table.FullName(), string(rune(k.op)))
		seg := &d.segments[k.last]
		b.in.lag.touched(k.table.FullName(), seg.CommitTime, seg.ReadAt)
	}
}

// cutDue cuts while a limit is reached, and what there is when the pipeline asks for it and no more comes, or what came
// first has waited for long enough. It reports false when the session has ended.
func (b *batcher) cutDue() bool {
	cfg := &b.in.cfg
	for len(b.messages) > 0 {
		n, trigger := 0, ""
		switch {
		case len(b.messages) >= cfg.MaxEvents || b.bytes >= cfg.MaxBytes:
			n, trigger = b.fitting()
			n = b.wholeAtMost(n)
		case b.whole() > 0 && b.still:
			n, trigger = b.whole(), triggerTransaction
		case b.whole() > 0 && time.Since(b.since) >= cfg.MaxWait:
			n, trigger = b.whole(), triggerTimer
			b.waits(b.since.Add(cfg.MaxWait))
		default:
			return true
		}
		if full := trigger == triggerEvents || trigger == triggerBytes; !full && !b.s.asking.Load() {
			return true
		}
		if !b.cut(n, trigger) {
			return false
		}
	}
	return true
}

// waits notes that a batch could go out since then.
func (b *batcher) waits(since time.Time) {
	if b.due.IsZero() {
		b.due = since
	}
}

// fitting returns how many messages at the front keep both limits, at least one, and which limit it was.
func (b *batcher) fitting() (n int, trigger string) {
	total := 0
	for i, size := range b.sizes {
		if i == b.in.cfg.MaxEvents {
			return i, triggerEvents
		}
		if total += size; total > b.in.cfg.MaxBytes && i > 0 {
			return i, triggerBytes
		}
	}
	if len(b.sizes) == b.in.cfg.MaxEvents {
		return len(b.sizes), triggerEvents
	}
	return len(b.sizes), triggerBytes
}

// whole returns the number of messages behind which a batch may be cut that no limit cuts; 0 for none.
func (b *batcher) whole() int {
	switch {
	case !b.in.cfg.RespectTx:
		return len(b.messages)
	case len(b.ends) > 0:
		return b.ends[len(b.ends)-1].n
	default:
		return 0
	}
}

// wholeAtMost returns the greatest number of messages, at most n, after which a transaction ends. It returns n itself
// when the first transaction alone is larger, or when transactions need not be respected.
func (b *batcher) wholeAtMost(n int) int {
	if !b.in.cfg.RespectTx {
		return n
	}
	for _, v := range slices.Backward(b.ends) {
		if v.n <= n {
			return v.n
		}
	}
	return n
}

// cut hands the first n messages on and keeps the rest. It blocks while the pipeline has enough, and reports false when
// the session has ended.
func (b *batcher) cut(n int, trigger string) bool {
	out := &batch{messages: b.messages[:n:n], token: b.tokenAfter(n), trigger: trigger}
	if ev, ok := change.FromMessage(b.messages[0]); ok {
		out.oldest = ev.ReadAt
	}
	bytes := 0
	for _, size := range b.sizes[:n] {
		bytes += size
	}
	st := b.in.st
	st.batchEvents.Timing(int64(n))
	st.batchBytes.Timing(int64(bytes))
	st.bytesTotal.Incr(int64(bytes))
	st.stage(stageDecode, trigger, b.took)
	b.waits(time.Now()) // a full one
	st.stage(stageBatch, trigger, b.due.Sub(b.since))
	b.due = time.Time{}

	// A new array, since the batch keeps the old one; the next batch is probably as large.
	b.messages = append(make(service.MessageBatch, 0, len(b.messages)), b.messages[n:]...)
	b.sizes = b.sizes[:copy(b.sizes, b.sizes[n:])]
	b.bytes -= bytes
	b.took = 0
	rest := b.ends[:0]
	for _, e := range b.ends {
		if e.n > n {
			rest = append(rest, txEnd{n: e.n - n, commit: e.commit})
		}
	}
	b.ends = rest
	b.base = out.token.Commit
	// Here and nowhere later, so that batches and bare positions are tracked in log order.
	out.tracked = b.s.deliver.tracker.Add(out.token)
	b.s.asking.Store(false)
	select {
	case b.s.ready <- out:
		// The time that the pipeline was busy is not held against what is left: it would go out as a sliver.
		b.since = time.Now()
		return true
	case <-b.s.ctx.Done():
		return false
	}
}

// tokenAfter returns the position behind the first n messages: the newest commit at or before that point, and the events of
// the transaction after it that are among them.
func (b *batcher) tokenAfter(n int) checkpoint.Token {
	tok := checkpoint.Token{Source: b.src, Commit: b.base}
	whole := 0
	for _, e := range b.ends {
		if e.n > n {
			break
		}
		tok.Commit, whole = e.commit, e.n
	}
	if whole < n {
		if ev, ok := change.FromMessage(b.messages[n-1]); ok {
			tok.Sent = ev.Index
		}
	}
	return tok
}
