package publication

// The server refuses an UPDATE or DELETE of a table that is published, unless the log can say which row it was (its replica identity).
// Nobody expects that of a tool that reads. So nothing is published, and no statement is advised, before Refused was asked.

// Why is the reason for which the server would refuse.
type Why int

// The reasons.
const (
	NoIdentity Why = iota // the table has no replica identity
	Later                 // a partition that is made later would have none
	Generated             // the identity has a generated column that is not published (PostgreSQL 18)
)

// Refusal is a table whose updates and deletes the server would refuse.
type Refusal struct {
	Table Table
	Of    Name // the published table: the same, or one above it
	Why   Why
	// Mend is the statement after which it would not; empty: there is none that is known to be right.
	Mend string
}

// since18 is the first version that looks at generated columns.
const since18 = 180000

// Refused returns the updates and deletes that the server would refuse once the tables are published. Those of a partition count
// with each published table above it, and it needs an identity of its own: that of the table above is not inherited. What is
// inherited by partitions that are made later is the primary key.
//
// Children by INHERITS are published by themselves or not at all (FOR TABLE ONLY), so they count as what they are.
func Refused(version int, all, published []Table, generated bool) (refusals []Refusal) {
	by := map[uint32]Name{}
	for i := range published {
		by[published[i].OID] = published[i].Name
	}
	for i := range all {
		t := &all[i]
		of, ok := by[t.OID]
		for _, a := range t.Ancestors {
			if !ok {
				of, ok = by[a]
			}
		}
		if !ok {
			continue
		}
		if why, refused := t.refused(version, generated); refused {
			refusals = append(refusals, Refusal{Table: *t, Of: of, Why: why, Mend: t.mend(version, generated, why)})
		}
	}
	return refusals
}

func (t *Table) refused(version int, generated bool) (Why, bool) {
	if t.Partitioned {
		if !t.PrimaryKey {
			return Later, true
		}
		return Generated, version >= since18 && t.KeyGenerated && !generated
	}
	switch t.Identity {
	case 'f':
		return Generated, version >= since18 && (t.Virtual || t.Stored && !generated)
	case 'd':
		if !t.PrimaryKey {
			return NoIdentity, true
		}
		return Generated, version >= since18 && t.KeyGenerated && !generated
	case 'i':
		if !t.IdentityIndex {
			return NoIdentity, true
		}
		return Generated, version >= since18 && t.IndexGenerated && !generated
	default:
		return NoIdentity, true
	}
}

// mend returns the statement that gives the table an identity.
func (t *Table) mend(version int, generated bool, why Why) string {
	if why == Later || t.Partitioned {
		return ""
	}
	for _, identity := range []struct {
		name byte
		text string
	}{{'f', "FULL"}, {'d', "DEFAULT"}} {
		with := *t
		with.Identity = identity.name
		if _, refused := with.refused(version, generated); !refused {
			return "ALTER TABLE " + t.SQL() + " REPLICA IDENTITY " + identity.text
		}
	}
	return ""
}
