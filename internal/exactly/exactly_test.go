package exactly

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A transaction ends only where nothing that comes after it in the batch is before it in the log, and where the source can go on.
func TestEnds(t *testing.T) {
	for name, c := range map[string]struct {
		orders []uint64
		cuts   string
		want   []bool
	}{
		"in order":                         {[]uint64{1, 2, 3}, "yyy", []bool{true, true, true}},
		"with holes":                       {[]uint64{1, 5, 9}, "yyy", []bool{true, true, true}},
		"one event, several messages":      {[]uint64{1, 2, 2, 3}, "yyyy", []bool{true, false, true, true}},
		"turned around":                    {[]uint64{2, 1, 3}, "yyy", []bool{false, false, true}},
		"no place after it":                {[]uint64{1, 2, 3}, "nyn", []bool{false, true, true}},
		"the newest one first, then in it": {[]uint64{3, 1, 2}, "yyy", []bool{false, false, true}},
		"none":                             {nil, "", []bool{}},
	} {
		t.Run(name, func(t *testing.T) {
			marks := make([]*Mark, len(c.orders))
			for i, o := range c.orders {
				marks[i] = &Mark{Order: o, Cut: c.cuts[i] == 'y'}
			}
			assert.Equal(t, c.want, Ends(marks))
		})
	}
}

func TestLast(t *testing.T) {
	newest := &Mark{Order: 3}
	assert.Same(t, newest, Last([]*Mark{{Order: 2}, newest, {Order: 1}}))
	assert.Nil(t, Last(nil))
}

type fakeSource struct {
	value  string
	saved  int
	fenced []error
}

func (s *fakeSource) Prepare(*Mark) (Prepared, error) {
	return Prepared{Records: []Record{{"pos.history", []byte("h")}, {"pos", []byte(s.value)}}, Saved: func() { s.saved++ }}, nil
}
func (s *fakeSource) Fenced(err error) { s.fenced = append(s.fenced, err) }

// What the sink has under the key tells what became of a transaction.
func TestFound(t *testing.T) {
	for name, c := range map[string]struct {
		known, found []byte
		committed    bool
		fenced       bool
	}{
		"written":                {[]byte("old"), []byte("new"), true, false},
		"not written":            {[]byte("old"), []byte("old"), false, false},
		"the first, not written": {nil, nil, false, false},
		"the first, written":     {nil, []byte("new"), true, false},
		"another's":              {[]byte("old"), []byte("other"), false, true},
		"another's first":        {nil, []byte("other"), false, true},
		"gone":                   {[]byte("old"), nil, false, true},
		"empty":                  {nil, []byte{}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := &fakeSource{value: "new"}
			l := NewLedger("pos", s)
			l.Know(c.known)
			l.Arm()
			tx, err := l.Rows(t.Context(), nil)
			require.NoError(t, err)
			committed, err := tx.Found(c.found)
			assert.Equal(t, c.committed, committed)
			if c.fenced {
				require.ErrorIs(t, err, ErrFenced)
				assert.Equal(t, []error{err}, s.fenced)
				_, err = l.Rows(t.Context(), nil)
				require.ErrorIs(t, err, ErrFenced, "nothing is written any more")
				return
			}
			require.NoError(t, err)
			tx.Committed()
			assert.Equal(t, 1, s.saved)
			tx, err = l.Rows(t.Context(), nil)
			require.NoError(t, err, "the turn is given back")
			_, err = tx.Found([]byte("new"))
			require.NoError(t, err)
			tx.Aborted()
			tx.Aborted()
		})
	}
}

// A sink that has an older record again has lost what it had acknowledged: that is said, and is an end, too.
func TestFoundAgain(t *testing.T) {
	s := &fakeSource{}
	l := NewLedger("pos", s)
	l.Arm()
	for _, s.value = range []string{"first", "second"} {
		tx, err := l.Rows(t.Context(), nil)
		require.NoError(t, err)
		tx.Committed()
	}
	s.value = "third"
	tx, err := l.Rows(t.Context(), nil)
	require.NoError(t, err)
	_, err = tx.Found([]byte("first"))
	require.ErrorIs(t, err, ErrFenced)
	require.EqualError(t, err, `fenced: the position under key "pos" is an older one than the sink has acknowledged: the sink has lost what came after it, as in a `+
		`fail-over to a replica that was late; this instance stops, and goes on from there when it is started again`)
}

// Who waits for the turn gives up with its context; who gives up has no turn to give back.
func TestTurn(t *testing.T) {
	l := NewLedger("pos", &fakeSource{value: "new"})
	tx, err := l.Rows(t.Context(), nil)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = l.Rows(ctx, nil)
	require.ErrorIs(t, err, context.Canceled)
	tx.Aborted()
	tx, err = l.Begin(t.Context(), func() (Prepared, error) { return Prepared{}, nil })
	require.NoError(t, err)
	assert.Nil(t, tx, "nothing to write")
	tx, err = l.Rows(t.Context(), nil)
	require.NoError(t, err)
	tx.Committed()
}

type fakeSink struct{ Sink }

// Source and output find each other whoever comes first; a third one is refused.
func TestPipeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Of(service.MockResources())
		_, err := p.Ledger(t.Context())
		require.ErrorIs(t, err, ErrNoSource)
		_, err = p.Sink(t.Context())
		require.ErrorIs(t, err, ErrNoSink)

		l, s := NewLedger("pos", nil), &fakeSink{}
		time.AfterFunc(time.Second, func() {
			assert.NoError(t, p.Offer(l))
			assert.NoError(t, p.Attach(s))
		})
		got, err := p.Sink(t.Context())
		require.NoError(t, err)
		assert.Same(t, s, got)
		ledger, err := p.Ledger(t.Context())
		require.NoError(t, err)
		assert.Same(t, l, ledger)

		require.NoError(t, p.Offer(l))
		require.NoError(t, p.Attach(s))
		require.ErrorIs(t, p.Offer(NewLedger("pos", nil)), ErrSources)
		require.ErrorIs(t, p.Attach(&struct{ Sink }{}), ErrSinks)
		p.Withdraw(l)
		p.Detach(s)
		require.NoError(t, p.Offer(NewLedger("pos", nil)))
		require.NoError(t, p.Attach(&struct{ Sink }{}))
	})
}

// What goes into a transaction ends where it may, at the limit where that is possible.
func TestFit(t *testing.T) {
	never := func(int) bool { return false }
	for name, c := range map[string]struct {
		ends  string
		limit int
		part  func(int) bool
		want  int
	}{
		"all":                      {"yyyy", 40, never, 4},
		"the limit":                {"yyyy", 25, never, 2},
		"the last end before it":   {"ynny", 35, never, 1},
		"no end before it":         {"nnny", 15, never, 4},
		"one is too large":         {"yyyy", 5, never, 1},
		"before a failed row":      {"yyyy", 100, func(k int) bool { return k == 2 }, 2},
		"no end before that row":   {"ynyy", 100, func(k int) bool { return k == 2 }, 4},
		"it is the first that row": {"yyyy", 100, func(k int) bool { return k == 0 }, 4},
	} {
		ends := make([]bool, len(c.ends))
		for i := range ends {
			ends[i] = c.ends[i] == 'y'
		}
		assert.Equal(t, c.want, Fit(ends, c.limit, func(int) int { return 10 }, c.part), name)
	}
}
