package lag

import "time"

// agesGrain is how far apart two commits must be to be told apart: the age of the later one is at most so much too great.
const agesGrain = 100 * time.Millisecond

// ages are the commit times of what is read and not delivered and saved, by the numbers of segments. The first one is always the oldest
// commit; a later segment with an older commit stands for those before it.
type ages []age

type age struct {
	first, last uint64 // the segments that this commit time stands for
	committed   time.Time
}

// add notes a segment. Segments come in order.
func (a *ages) add(seq uint64, committed time.Time) {
	first := seq
	for n := len(*a); n > 0 && (*a)[n-1].committed.After(committed); n-- {
		first = (*a)[n-1].first
		*a = (*a)[:n-1]
	}
	if n := len(*a); n > 0 && committed.Sub((*a)[n-1].committed) < agesGrain {
		(*a)[n-1].last = seq
		return
	}
	*a = append(*a, age{first, seq, committed})
}

// pass forgets what is delivered and saved up to a segment.
func (a *ages) pass(seq uint64) {
	n := 0
	for n < len(*a) && (*a)[n].last <= seq {
		n++
	}
	if *a = (*a)[n:]; len(*a) == 0 {
		*a = nil // lets the array go
	}
}

// rewind forgets what came after a segment, and returns its oldest commit: it is going to be read again.
func (a *ages) rewind(seq uint64) (oldest time.Time) {
	n := len(*a)
	for ; n > 0 && (*a)[n-1].last > seq; n-- {
		one := &(*a)[n-1]
		oldest = one.committed
		if one.first <= seq {
			one.last = seq
			break
		}
	}
	*a = (*a)[:n]
	return oldest
}
