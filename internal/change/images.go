package change

import "sync"

// Images are the row images of an event, before and after the change, as values. Those of an event that a source has made can still be
// what the log has: they become values when somebody asks, with all rows that were read together. The zero Images has none.
type Images struct {
	rows *ImageSet
	at   int
}

// Pair is the values of a row before a change and after it, one for each column of its table; nil where there is no such image.
type Pair struct{ Before, After []Value }

// ImageSet is the images of rows that were read together. It may be used by many goroutines.
type ImageSet struct {
	once  sync.Once
	make  func() []Pair
	pairs []Pair
	one   [1]Pair
}

// ImagesOf returns images of values; nil for an image that there is not.
func ImagesOf(before, after []Value) Images {
	if before == nil && after == nil {
		return Images{}
	}
	r := &ImageSet{one: [1]Pair{{before, after}}}
	r.pairs = r.one[:]
	return Images{rows: r}
}

// ImageSetOf returns the images of rows whose values the caller fills in, each before anybody else has its event.
func ImageSetOf(pairs []Pair) *ImageSet { return &ImageSet{pairs: pairs} }

// LazyImages returns the images of rows that are still as they were read. Values makes values of them. It is called at most once, from any
// goroutine.
func LazyImages(values func() []Pair) *ImageSet { return &ImageSet{make: values} }

// At returns the images of a row, counted from 0.
func (r *ImageSet) At(n int) Images { return Images{r, n} }

func (r *ImageSet) values() {
	if r.make != nil {
		r.pairs, r.make = r.make(), nil
	}
}

func (i Images) pair() *Pair {
	i.rows.once.Do(i.rows.values)
	return &i.rows.pairs[i.at]
}

// Before returns the row before the change; nil when there is no such image. Nobody may change it.
func (i Images) Before() []Value {
	if i.rows == nil {
		return nil
	}
	return i.pair().Before
}

// After returns the row after the change, like Before.
func (i Images) After() []Value {
	if i.rows == nil {
		return nil
	}
	return i.pair().After
}
