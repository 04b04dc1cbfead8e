package shape

// Prepared is where the rows of a prepared transaction are. It is immutable.
type Prepared struct {
	// At is the position before the transaction, Server the server whose files that names.
	At     string `json:"at"`
	Server string `json:"server"`
	// GTID is the transaction's, where it has one: another server has it at another place.
	GTID string `json:"gtid,omitempty"`
}

// applyXA takes over the part of a change that is about an XA transaction.
func (s State) applyXA(c Change) {
	d := s[NoDatabase]
	if d == nil {
		d = &Database{}
		s[NoDatabase] = d
	}
	if c.Prepared == nil {
		delete(d.Prepared, c.XA)
		return
	}
	if d.Prepared == nil {
		d.Prepared = map[string]*Prepared{}
	}
	d.Prepared[c.XA] = c.Prepared
}

// Prepared returns the prepared XA transaction of an id; nil when there is none.
func (s State) Prepared(xid string) *Prepared {
	if d := s[NoDatabase]; d != nil {
		return d.Prepared[xid]
	}
	return nil
}
