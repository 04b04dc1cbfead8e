package mysqlcdc

// xaPrepared is where the rows of a prepared transaction are. It is immutable.
type xaPrepared struct {
	// At is the position before the transaction, Server the server whose files that names.
	At     string `json:"at"`
	Server string `json:"server"`
	// GTID is the transaction's, where it has one: another server has it at another place.
	GTID string `json:"gtid,omitempty"`
}

// applyXA takes over the part of a change that is about an XA transaction.
func (s schemaState) applyXA(c schemaChange) {
	d := s[noDatabase]
	if d == nil {
		d = &databaseDef{}
		s[noDatabase] = d
	}
	if c.Prepared == nil {
		delete(d.Prepared, c.XA)
		return
	}
	if d.Prepared == nil {
		d.Prepared = map[string]*xaPrepared{}
	}
	d.Prepared[c.XA] = c.Prepared
}

func (s schemaState) prepared(xid string) *xaPrepared {
	if d := s[noDatabase]; d != nil {
		return d.Prepared[xid]
	}
	return nil
}
