package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/envelope/debezium"
)

// words are rows of words with spaces between: a "?" cannot be represented, a "!" makes a row malformed.
type words struct{ columns int }

var (
	errInexact   = errors.New("a question")
	errMalformed = errors.New("a shout")
)

func (w *words) AppendRow(dst, row []byte, names [][]byte, ends []int32) ([]byte, bool) {
	start := len(dst)
	for i, word := range bytes.Fields(row) {
		dst = append(dst, names[i]...)
		if word[0] == '?' || word[0] == '!' {
			return dst, false
		}
		dst = envelope.AppendText(dst, word)
		ends[i] = int32(len(dst) - start)
	}
	dst[start] = '{'
	return append(dst, '}'), true
}

func (w *words) Value(row []byte, column int) (change.Value, error) {
	return change.TextValue(bytes.Fields(row)[column]), nil
}

func (w *words) Decoder() func(row []byte) (values []change.Value, inexact, err error) {
	return func(row []byte) (values []change.Value, inexact, err error) {
		for _, word := range bytes.Fields(row) {
			switch word[0] {
			case '?':
				inexact = errInexact
			case '!':
				return nil, nil, errMalformed
			}
			values = append(values, change.TextValue(word))
		}
		return values, inexact, nil
	}
}

// TestRaw: messages of rows as they were read are those of their values, whatever the format, and so are the values that they have.
func TestRaw(t *testing.T) {
	for name, f := range map[string]change.Format{"native": nil, "row": envelope.Row{Deletes: envelope.DeleteKeep}, "debezium": debezium.Default()} {
		t.Run(name, func(t *testing.T) {
			src := &change.Source{Connector: "mysql", Name: "s", Format: f}
			table := &change.Table{Source: src, Database: "d", Name: "t", Columns: []change.Column{{Name: "a"}, {Name: "b"}}, Key: []int{1}}
			take := func() *rows {
				r := newRows(task{reading: &reading{table: "d.t", id: "1"}}, 5)
				r.prepare = func(*change.Table) error { return nil }
				return r
			}
			raw, plain, form := take(), take(), &words{}
			decode := form.Decoder()
			for i := range 300 {
				row := fmt.Appendf(nil, "one%d two%d", i, i)
				if i%7 == 3 {
					row = fmt.Appendf(nil, "?%d two%d", i, i)
				}
				values, inexact, err := decode(row)
				require.NoError(t, err)
				plain.add(table, values, inexact)
				require.NoError(t, raw.addRaw(table, row, form))
			}
			require.ErrorIs(t, raw.addRaw(table, []byte("! x"), form), errMalformed)
			got, want := raw.result(End{}), plain.result(End{})
			require.Len(t, got.messages, len(want.messages))
			raw.origin.Tx.CommitTime, raw.origin.ReadAt = plain.origin.Tx.CommitTime, plain.origin.ReadAt
			for i, m := range got.messages {
				a, _ := change.FromMessage(m)
				b, _ := change.FromMessage(want.messages[i])
				assert.Equal(t, string(b.AppendID(nil)), string(a.AppendID(nil)))
				assert.Equal(t, b.After(), a.After())
				assert.Equal(t, string(b.Key()), string(a.Key()))
				assert.Equal(t, want.messages[i].GetError(), m.GetError())
				again := func(ev *change.Event) string {
					one := *ev
					return fmt.Sprint(len(envelope.AppendMessages(nil, &one)), string(one.Payload()))
				}
				assert.Equal(t, again(b), again(a))
				assert.Len(t, a.Payload(), len(again(a))-len("1"))
			}
		})
	}
}
