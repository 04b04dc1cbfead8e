package postgrescdc

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
)

// Position is how far the stream was read. It also names the newest transaction that the server sent up to there, which no other log
// has at that place: a server that was put back to an older state, or a copy of one, has the identity of the first and other changes
// at the same positions.
type Position struct {
	At lsn.LSN // everything that ends here or before is read
	// Last is the end of the newest transaction that was sent, at or before At. With the XID 0 it is where the slot was at the first
	// start, and none was sent yet. It is 0 in positions of a form that does not say.
	Last lsn.LSN
	XID  uint32
}

var _ checkpoint.Position = Position{}

// String returns the LSN alone, or "0/16B3748;751" where the transaction 751 ends there, or "0/16B3900;751@0/16B3748" where that one
// ends before.
func (p Position) String() string {
	b := p.At.Append(make([]byte, 0, 48))
	if p.Last != 0 {
		b = append(b, ';')
		b = strconv.AppendUint(b, uint64(p.XID), 10)
	}
	if p.Last != 0 && p.Last != p.At {
		b = append(b, '@')
		b = p.Last.Append(b)
	}
	return string(b)
}

// needs returns the position that the server's log must reach to be the one that was read: what comes after it was not for us.
func (p Position) needs() lsn.LSN {
	if p.Last != 0 {
		return p.Last
	}
	return p.At
}

// ParsePosition reads what String returns, and nothing else.
func ParsePosition(s string) (p Position, err error) {
	at, rest, known := strings.Cut(s, ";")
	if p.At, err = lsn.Parse(at); err != nil || !known {
		return p, err
	}
	xid, last, before := strings.Cut(rest, "@")
	n, err := strconv.ParseUint(xid, 10, 32)
	if err != nil {
		return Position{}, fmt.Errorf("position %q: want the number of a transaction after the semicolon", s)
	}
	p.XID, p.Last = uint32(n), p.At
	if before {
		if p.Last, err = lsn.Parse(last); err != nil {
			return Position{}, fmt.Errorf("position %q: %w", s, err)
		}
	}
	if p.Last == 0 || p.Last > p.At || p.String() != s {
		return Position{}, fmt.Errorf("position %q: want the form 0/16B3748, 0/16B3748;751 or 0/16B3900;751@0/16B3748", s)
	}
	return p, nil
}

// tokenPosition returns the position of a token: ours, or the text that was saved.
func tokenPosition(tok checkpoint.Token) (Position, error) {
	switch p := tok.Commit.(type) {
	case nil:
		return Position{}, nil
	case Position:
		return p, nil
	default:
		return ParsePosition(p.String())
	}
}
