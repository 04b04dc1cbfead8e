// Package checkpoint knows what a resume position is, which one is safe to save, and where it is kept.
//
// It knows no database. A position is opaque here: the input that made it is the only one that parses it.
package checkpoint

import (
	"fmt"
	"strconv"
	"strings"
)

// Position is the end of a committed transaction in one database's log. Inputs implement it with a type of their own
// (a GTID set, an LSN). An implementation is immutable; String is called when the position is saved or shown, not for
// each transaction, and its result is what the input's own ParsePosition takes back.
type Position interface {
	String() string
}

// Text is a Position that has been read back from a store or a configuration and is not parsed yet.
type Text string

// String returns the text itself.
func (t Text) String() string { return string(t) }

// Token says where to resume: after Commit, and after the first Sent events of the transaction that follows it.
type Token struct {
	// Source identifies the server whose log Commit belongs to (MySQL server UUID, PostgreSQL system identifier and
	// timeline). Empty where the database has no such thing or nothing is saved.
	Source string
	// Commit is the newest transaction of which every event is delivered. Nil means that nothing has been read
	// yet: the input's own start configuration applies.
	Commit Position
	// Sent counts the events of the next transaction that are delivered already. They are counted from its first
	// event, before any table filter, so that a changed filter does not move the count.
	Sent uint64
}

// IsZero reports whether there is nothing to resume from.
func (t Token) IsZero() bool { return t.Commit == nil && t.Sent == 0 }

// String shows the token in logs: the commit position, and "+n" for n events of the next transaction.
func (t Token) String() string {
	var b strings.Builder
	if t.Commit != nil {
		b.WriteString(t.Commit.String())
	} else {
		b.WriteString("start")
	}
	if t.Sent > 0 {
		b.WriteByte('+')
		b.WriteString(strconv.FormatUint(t.Sent, 10))
	}
	return b.String()
}

// GoString keeps %#v of structures that hold a token readable.
func (t Token) GoString() string { return fmt.Sprintf("checkpoint.Token(%s)", t) }
