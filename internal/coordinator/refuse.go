package coordinator

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/coordinator/internal/health"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// How long a rejected batch waits before it is sent again.
const (
	resendMin = 50 * time.Millisecond
	resendMax = 10 * time.Second
	// aloneMax is the same for one event that the output refuses by itself.
	aloneMax = time.Minute
)

// refusal is what a delivery knows of being rejected.
type refusal struct {
	times int
	first time.Time
	fatal []*change.Event // the events that the output has named
}

// suspect reports whether a delivery goes out alone: it was rejected, or is a part of a batch that was.
func (dl *delivery) suspect() bool { return dl.refusal.times > 0 }

// refused notes a rejected batch; d.mu is held.
func (d *deliveries) refused(dl *delivery, err error) {
	if dl.refusal.first.IsZero() {
		dl.refusal.first = time.Now()
	}
	dl.refusal.times++
	dl.refusal.fatal = namedBy(err)
	single := len(dl.batch.messages) == 1
	most := resendMax
	if single && dl.refusal.times > 1 {
		most = aloneMax
	}
	if !d.rejected { // else it was rejected together with another one
		d.pause = min(most, max(resendMin, 2*d.pause))
	}
	d.notBefore = time.Now().Add(d.pause)
	d.rejected = true
	dl.state = isDue // rearm counts it
	if !d.closed {
		d.tell(dl, err, single)
	}
}

// tell logs a rejection, and remembers it for the control plane; d.mu is held.
func (d *deliveries) tell(dl *delivery, err error, single bool) {
	b := dl.batch
	out := d.in.out.With("position", b.end.token.String(), "error", err.Error())
	what := fmt.Sprintf("Batch of %s up to %s", d.in.cfg.Name, b.end.token)
	if single {
		if ev, ok := change.Own(b.messages[0]); ok {
			out = out.With("table", ev.Table.FullName(), "event_id", string(ev.AppendID(nil)))
			what = fmt.Sprintf("Event %s of table %s in %s", ev.AppendID(nil), ev.Table.FullName(), d.in.cfg.Name)
		}
	}
	if single && dl.refusal.times > 1 {
		d.in.health.Trouble(health.Output, dl.refusal.first, fault.WithKind(fault.KindOther, fmt.Errorf("the output refuses %s, sent alone: %w; %s", lower(what), err, wayOut)))
	} else if dl.refusal.times > 1 {
		d.in.health.Retrying(health.Output, dl.refusal.first, fmt.Errorf("the output refuses the %s: %w", lower(what), err))
	}
	out.Warnf("%s rejected, sending it again in %s: %v", what, d.pause, err)
	if single && dl.refusal.times == 2 {
		out.Errorf("%s is refused by the output whenever it is sent, alone too. Everything before it is delivered, everything after it waits. To go "+
			"on, %s", what, wayOut)
	}
}

// wayOut is what a person does about an event that an output refuses.
const wayOut = "mend what the error names (a limit of the sink or of the output, a permission, a name), or give the output a `fallback` " +
	"that takes what is refused"

func lower(s string) string { return string(s[0]|0x20) + s[1:] }

// namedBy returns the events that an output has named as refused.
func namedBy(err error) (events []*change.Event) {
	all, ok := errors.AsType[*service.BatchError](err)
	if !ok || all.IndexedErrors() == 0 {
		return nil
	}
	all.WalkMessages(func(_ int, m *service.Message, err error) bool {
		if ev, ok := change.FromMessage(m); ok && err != nil {
			events = append(events, ev.Root().Whole())
		}
		return true
	})
	return events
}

// rearm makes everything that was handed out due again, once all of it is answered; d.mu is held.
func (d *deliveries) rearm() {
	d.rejected, d.alone, d.due = false, false, 0
	rest := make([]*delivery, 0, len(d.pending)+1)
	for _, dl := range d.pending {
		parts := dl.apart()
		for _, p := range parts {
			if p.state != isCut {
				p.state = isDue
				d.due++
			}
		}
		rest = append(rest, parts...)
	}
	d.pending = rest
}

// mostNamed bounds the refused events around which a batch is taken apart, where the output names them.
const mostNamed = 16

// apart takes a rejected batch apart. The first time, it is cut around the events that the output has named; from the second time on, in
// half. So a refused event is alone after a few attempts: the events before it are delivered, and no other event is sent again because of it.
func (dl *delivery) apart() []*delivery {
	n := len(dl.batch.messages)
	if dl.refusal.times == 0 || dl.state == isCut || n == 1 {
		return []*delivery{dl}
	}
	var at []int
	switch named := dl.refusal.fatal; {
	case len(named) > 0 && len(named) <= mostNamed && len(named) < n:
		for i, m := range dl.batch.messages {
			if ev, ok := change.Own(m); ok && slices.Contains(named, ev.Whole()) {
				at = append(at, i, i+1)
			}
		}
	case dl.refusal.times > 1:
		at = []int{n / 2}
	}
	batches := dl.batch.split(at)
	if len(batches) == 1 {
		return []*delivery{dl}
	}
	parts := make([]*delivery, len(batches))
	for i, b := range batches {
		parts[i] = &delivery{batch: b, end: b.end, state: isDue, attempt: dl.attempt, refusal: refusal{times: 1, first: dl.refusal.first}}
		b.delivery = parts[i]
	}
	parts[len(parts)-1].end = dl.end // with what has been passed after it
	return parts
}
