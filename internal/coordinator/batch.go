package coordinator

import (
	"slices"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/coordinator/internal/markers"
	"github.com/deltaforge/deltaforge/internal/coordinator/internal/tally"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// quiet is how long the log must have nothing to give before a batch goes out without being full. It is longer than the
// pause between two reads of a busy log, and far shorter than anybody's idea of latency. Such a batch also waits until the
// pipeline asks for one: meanwhile it can grow.
const quiet = 1200 * time.Microsecond

// batch is a batch on its way to the pipeline.
type batch struct {
	stretch
	end      place     // after its last event
	oldest   time.Time // when its first event was read
	trigger  string    // what cut it
	delivery *delivery // in the books
	siblings *change.Siblings
	used     bool // the pipeline has had the messages, and may have changed them; of the engine's reading goroutine
}

// stretch is a part of the log: messages, and the ends of transactions among them.
type stretch struct {
	source   string // identity of the server
	base     place  // the newest commit before the first message
	first    uint64 // order of the place after the first message
	messages service.MessageBatch
	ends     []txEnd // of transactions that are complete, oldest first
}

// txEnd is the end of a transaction among messages.
type txEnd struct {
	n      int // messages before it
	commit checkpoint.Position
	seq    uint64 // of the segment that ended it
	mark   uint64 // of the newest chunk before it
}

// after returns the place after the first n messages: the newest commit at or before that point, and the events of
// the transaction after it that are among them.
func (s *stretch) after(n int) place {
	p := place{checkpoint.Token{Source: s.source, Commit: s.base.token.Commit}, s.base.seq, s.base.mark, s.first + uint64(n) - 1, s.base.era}
	whole := 0
	for _, e := range s.ends {
		if e.n > n {
			break
		}
		p.token.Commit, p.seq, p.mark, whole = e.commit, e.seq, e.mark, e.n
	}
	if whole == n {
		return p
	}
	if ev, ok := change.Own(s.messages[n-1]); ok {
		p.token.Sent = ev.Index
		if n < len(s.messages) && sub(s.messages[n]) {
			p.token.Sent-- // the one after it has no number of its own, and must not be left out
		}
	}
	return p
}

// sub reports whether a message has the number of the one before it: it is about the same change, or stands between two.
func sub(m *service.Message) bool {
	ev, ok := change.Own(m)
	return ok && (ev.Sub > 0 || ev.Part > 0)
}

// apart returns the first number of messages from n on after which a batch may end: the messages of one change stay together, so that no
// position lies between them.
func apart(messages service.MessageBatch, n int) int {
	for n < len(messages) && (sub(messages[n]) || n > 0 && markers.Begins(messages[n-1])) {
		n++
	}
	return n
}

// split takes a batch apart before the given messages, which are in order. It does not part a message from one that has its number.
func (b *batch) split(at []int) (parts []*batch) {
	from := 0
	for _, to := range append(at, len(b.messages)) {
		to = apart(b.messages, to)
		if to <= from {
			continue
		}
		part := &batch{
			stretch: stretch{source: b.source, base: b.after(from), first: b.first + uint64(from), messages: b.messages[from:to:to]},
			end:     b.after(to), oldest: b.oldest, trigger: b.trigger, used: b.used, siblings: b.siblings,
		}
		if from == 0 {
			part.base = b.base
		}
		for _, e := range b.ends {
			if e.n > from && e.n <= to {
				part.ends = append(part.ends, txEnd{e.n - from, e.commit, e.seq, e.mark})
			}
		}
		part.remark()
		parts = append(parts, part)
		from = to
	}
	return parts
}

// batcher gathers decoded segments and cuts them into batches, from the front of what it holds.
type batcher struct {
	stretch // what it holds
	s       *session
	in      *Input

	sizes []int // payload bytes of each message
	bytes int   // their sum
	kinds tally.Tally
	took  time.Duration
	since time.Time        // when the first message came, or when the batch before it was taken
	sent  bool             // base is followed by events that are delivered, and whose transaction has not ended yet
	still bool             // the log has been quiet since the last message
	due   time.Time        // since when what there is waits only for the pipeline; zero: it does not
	mark  uint64           // of the newest chunk of a snapshot that it has had
	more  bool             // there may be chunks whose place is here
	marks *markers.Markers // nil: begins and ends of transactions are no events
}

func newBatcher(s *session) *batcher {
	b := &batcher{
		stretch: stretch{source: s.from.token.Source, base: s.from}, s: s, in: s.in, sent: s.from.token.Sent > 0, mark: s.from.mark,
		kinds: tally.New(),
	}
	if s.in.cfg.Transactions {
		b.marks = markers.New()
	}
	return b
}

// run takes the lanes' output in order until the session ends.
func (b *batcher) run(lanes []lane) error {
	b.in.st.channelCapacity.Set(int64(2 * b.in.growth * b.in.cfg.MaxEvents)) // one batch waiting, one being filled
	b.in.st.channelDepth.Set(0)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for n := 0; ; {
		var wait <-chan time.Time
		if b.whole() > 0 && !b.still {
			timer.Reset(min(quiet, b.in.cfg.MaxWait))
			wait = timer.C
		}
		in, held := lanes[n].out, b.s.join.Held()
		if held != nil {
			in = nil
		}
		select {
		case d := <-in:
			if n++; n == len(lanes) {
				n = 0
			}
			b.still = false
			if err := b.withMarkers(&d); err != nil {
				return err
			}
			b.add(d)
		case <-wait:
			b.still = true
			b.waits(time.Now())
		case <-b.s.asked:
		case <-held:
		case <-b.s.chunkReady():
			b.still = false
			b.chunks()
		case <-b.s.ctx.Done():
			return nil
		}
		for {
			if !b.cutDue() {
				return nil
			}
			if !b.more || b.full() {
				break
			}
			b.chunks()
		}
	}
}

// withMarkers puts the begins and ends of transactions among the messages of a group.
func (b *batcher) withMarkers(d *decoded) error {
	if b.marks == nil {
		return nil
	}
	marked := decoded{segments: d.segments, counts: make([]int, len(d.counts)), took: d.took}
	from := 0
	for i, n := range d.counts {
		var err error
		before := len(marked.messages)
		if marked.messages, err = b.marks.Append(b.s.ctx, marked.messages, d.messages[from:from+n], d.segments[i].Commit != nil); err != nil {
			return err
		}
		marked.counts[i] = len(marked.messages) - before
		from += n
	}
	marked.measure()
	*d = marked
	return nil
}

// add takes a decoded group in.
func (b *batcher) add(d decoded) {
	if len(d.messages) > 0 {
		if len(b.messages) == 0 {
			b.since = time.Now()
		}
		b.took += d.took
		b.count(d)
	}
	from := 0
	for i := range d.segments {
		seg, to := &d.segments[i], from+d.counts[i]
		if seg.Source != "" {
			b.source = seg.Source
		}
		b.take(d, from, to)
		b.follow(d.messages[from:to], seg)
		from = to
		b.ended(seg)
		b.chunks()
	}
}

// take adds messages of what was decoded, those for the pipeline, to what there is.
func (b *batcher) take(d decoded, from, to int) {
	had := len(b.messages)
	for i := from; i < to; i++ {
		if d.silent && silent(d.messages[i]) {
			continue
		}
		b.messages = append(b.messages, d.messages[i])
		b.sizes = append(b.sizes, d.sizes[i])
		b.bytes += d.sizes[i]
	}
	b.s.wait(len(b.messages) - had)
}

// silent reports whether the pipeline does not get a message.
func silent(m *service.Message) bool {
	ev, ok := change.Own(m)
	return ok && ev.Silent
}

// follow tells the snapshot what the stream brings.
func (b *batcher) follow(messages service.MessageBatch, seg *Segment) {
	if j := b.s.join; j != nil && (seg.Commit != nil || len(messages) > 0) {
		j.Segment(messages, seg.Commit)
	}
}

// chunks takes in the chunks of snapshots whose place is here: after what there is, and before what comes. While there is a batch of
// messages, the others stay where they are: what waits there bounds how many are read.
func (b *batcher) chunks() {
	j := b.s.join
	if j == nil || !j.Pending() {
		return
	}
	for b.more = b.full(); !b.more; b.more = b.full() {
		c := j.Next()
		if c == nil {
			return
		}
		b.mark = c.Mark
		if len(c.Messages) > 0 {
			b.chunk(c)
		}
		b.passed()
	}
}

// chunk takes the rows of a chunk in.
func (b *batcher) chunk(c *snapshot.Due) {
	now := time.Now()
	if len(b.messages) == 0 {
		b.since = now
	}
	b.messages = append(b.messages, c.Messages...)
	b.sizes = append(b.sizes, c.Sizes...)
	for _, size := range c.Sizes {
		b.bytes += size
	}
	if ev, ok := change.Own(c.Messages[0]); ok {
		b.in.st.sourceEvents.Incr(int64(len(c.Messages)), ev.Table.FullName(), string(rune(change.Read)))
	}
	b.s.wait(len(c.Messages))
	b.s.progress()
}

// passed notes that a chunk ends after the messages, where no transaction does.
func (b *batcher) passed() {
	last := txEnd{n: len(b.messages), commit: b.base.token.Commit, seq: b.base.seq, mark: b.mark}
	switch n := len(b.ends); {
	case len(b.messages) == 0:
		b.base.mark, b.base.order = b.mark, b.in.nextOrder()
		b.in.deliver.passed(b.base)
	case n == 0:
		b.ends = append(b.ends, last)
	case b.ends[n-1].n == len(b.messages):
		b.ends[n-1].mark = b.mark
	default:
		last.commit, last.seq = b.ends[n-1].commit, b.ends[n-1].seq
		b.ends = append(b.ends, last)
	}
}

// ended notes that a transaction ends after the messages, unless the segment has no commit.
func (b *batcher) ended(seg *Segment) {
	switch {
	case seg.Commit == nil:
		return
	case b.sent && len(b.ends) == 0 && seg.Commit.String() == b.base.token.Commit.String():
		// The log repeats where it began, inside a transaction that is delivered in part: the position must not move back to it.
		return
	case len(b.messages) == 0:
		// Nothing to deliver: the position moves once everything before it is acknowledged.
		b.base, b.sent = place{checkpoint.Token{Source: b.source, Commit: seg.Commit}, seg.seq, b.mark, b.in.nextOrder(), b.base.era}, false
		b.in.deliver.passed(b.base)
		if !b.s.moved.Load() && seg.Commit.String() != b.s.from.token.String() {
			b.s.progress()
		}
	case len(b.ends) > 0 && b.ends[len(b.ends)-1].n == len(b.messages):
		b.ends[len(b.ends)-1] = txEnd{n: len(b.messages), commit: seg.Commit, seq: seg.seq, mark: b.mark}
	default:
		b.ends = append(b.ends, txEnd{n: len(b.messages), commit: seg.Commit, seq: seg.seq, mark: b.mark})
	}
}

// count adds a group's events to source_events_total, once for each table and operation: the engine's counters cost more than
// a row does.
func (b *batcher) count(d decoded) {
	from := 0
	for i, n := range d.counts {
		for _, m := range d.messages[from : from+n] {
			if ev, ok := change.Own(m); ok && ev.Part == 0 {
				b.kinds.Add(ev.Whole(), i)
			}
		}
		from += n
	}
	for _, k := range b.kinds.Take() {
		b.in.st.sourceEvents.Incr(k.N, k.Table.FullName(), string(rune(k.Op)))
		seg := &d.segments[k.Last]
		b.in.lag.Touched(k.Table.FullName(), seg.CommitTime, seg.seq)
	}
}

// full reports whether the largest batch is reached.
func (b *batcher) full() bool { return b.reached(b.in.growth) }

// reached reports whether so many batches of the configured size are reached.
func (b *batcher) reached(times int) bool {
	return len(b.messages) >= times*b.in.cfg.MaxEvents || b.bytes >= times*b.in.cfg.MaxBytes
}

// cutDue cuts batches while a limit is reached. It cuts what there is when the pipeline asks and no more comes, or when the
// first message has waited for long enough. It reports false when the session has ended.
func (b *batcher) cutDue() bool {
	cfg := &b.in.cfg
	for len(b.messages) > 0 {
		n, trigger := 0, ""
		switch {
		case b.full(), b.reached(1) && b.s.asking.Load():
			n, trigger = b.fitting()
			n = b.joined(b.wholeAtMost(apart(b.messages, n)))
		case b.whole() > 0 && b.still:
			n, trigger = b.joined(b.whole()), triggerTransaction
		case b.whole() > 0 && time.Since(b.since) >= cfg.MaxWait:
			n, trigger = b.joined(b.whole()), triggerTimer
			b.waits(b.since.Add(cfg.MaxWait))
		default:
			return true
		}
		if n == 0 {
			return true // the rest of what must not be parted is on its way
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
	events, bytes := b.in.growth*b.in.cfg.MaxEvents, b.in.growth*b.in.cfg.MaxBytes
	total := 0
	for i, size := range b.sizes {
		if i == events {
			return i, triggerEvents
		}
		if total += size; total > bytes && i > 0 {
			return i, triggerBytes
		}
	}
	if len(b.sizes) >= b.in.cfg.MaxEvents {
		return len(b.sizes), triggerEvents
	}
	return len(b.sizes), triggerBytes
}

// whole returns how many messages go into a batch that no limit cuts: it ends with a transaction. 0 means that none can.
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
	b.first = b.in.nextOrder()
	b.in.order += uint64(n) - 1
	out := &batch{
		stretch: stretch{source: b.source, base: b.base, first: b.first, messages: b.messages[:n:n]}, end: b.after(n), trigger: trigger,
	}
	if ev, ok := change.Own(b.messages[0]); ok {
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
	whole, _ := slices.BinarySearchFunc(b.ends, n+1, func(e txEnd, n int) int { return e.n - n })
	out.ends = b.ends[:whole:whole]
	b.ends = slices.Clone(b.ends[whole:])
	for i := range b.ends {
		b.ends[i].n -= n
	}
	b.base, b.sent = out.end, out.end.token.Sent > 0
	out.siblings = change.NewSiblings(out.messages)
	out.mark(b.in.exact)
	// Here and nowhere later, so that batches and bare positions are in the books in log order.
	b.in.deliver.cut(out)
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
