package coordinator

// fence ends this instance of the source, for good: another one has taken over its position.
func (i *Input) fence(err error) {
	i.taken.CompareAndSwap(nil, &err)
	if s := i.reading.Load(); s != nil {
		s.end(err)
	}
}

// fenced returns why this instance has to stop; nil: it has not.
func (i *Input) fenced() error {
	if err := i.taken.Load(); err != nil {
		return *err
	}
	return nil
}
