package demo

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// record is an event as a topic holds it.
type record struct{ topic, key, value string }

func rec(table, op, id string, version int, seq int) record {
	row := fmt.Sprintf(`{"id":%s,"name":"Zoë","city":null,"version":%d}`, id, version)
	before, after := "null", row
	if op == "d" {
		before, after = row, "null"
	}
	return record{
		topic: "shop.public." + table,
		key:   fmt.Sprintf(`{"id":%s}`, id),
		value: fmt.Sprintf(`{"before":%s,"after":%s,"source":{"table":%q},"op":%q,"event_id":"0/%X:1"}`, before, after, table, op, 100+seq),
	}
}

// history is what a shop did; what is left of it is customer 1 in version 3 and order 9007199254740993.
func history() []record {
	return []record{
		rec("customers", "c", "1", 1, 0),
		rec("customers", "c", "2", 1, 1),
		rec("orders", "c", "9007199254740993", 1, 2),
		rec("customers", "u", "1", 2, 3),
		rec("customers", "u", "1", 3, 4),
		rec("customers", "d", "2", 1, 5),
		rec("customers", "c", "3", 1, 6),
		rec("customers", "d", "3", 1, 7),
	}
}

func historyTables() (tally, map[string]map[string]row) {
	written := tally{
		{"customers", opInsert}: 3, {"customers", opUpdate}: 2, {"customers", opDelete}: 2,
		{"orders", opInsert}: 1,
	}
	return written, map[string]map[string]row{
		"customers": {"1": {"id": "1", "name": "Zoë", "city": nil, "version": "3"}},
		"orders":    {"9007199254740993": {"id": "9007199254740993", "name": "Zoë", "city": nil, "version": "1"}},
	}
}

func verdict(records []record) []string {
	r := newReplay()
	for _, rec := range records {
		ev, err := parseEvent(rec.topic, []byte(rec.key), []byte(rec.value))
		if err != nil {
			r.fault("%v", err)
			continue
		}
		r.apply(ev)
	}
	written, tables := historyTables()
	return compare(written, tables, r)
}

func TestOracleAcceptsWhatHappened(t *testing.T) {
	assert.Empty(t, verdict(history()))
}

func TestOracleFindsEveryLoss(t *testing.T) {
	for i := range history() {
		assert.NotEmpty(t, verdict(slices.Delete(history(), i, i+1)), "without event %d", i)
	}
}

// Only the counts know of a row that came and went.
func TestOracleFindsTheLossOfAWholeLife(t *testing.T) {
	assert.Equal(t, []string{
		"customers: 2 rows written by delete, 1 events received",
		"customers: 3 rows written by insert, 2 events received",
	}, verdict(history()[:6]))
}

func TestOracleNamesTheEventOfADuplicate(t *testing.T) {
	diffs := verdict(slices.Insert(history(), 1, history()[0]))
	require.NotEmpty(t, diffs)
	assert.Equal(t, "event 0/64:1 is the insert of customers 1, which is there already", diffs[0])
}

func TestOracleFindsEveryDuplicate(t *testing.T) {
	for i := range history() {
		for at := i + 1; at <= len(history()); at++ {
			planted := slices.Insert(history(), at, history()[i])
			assert.NotEmpty(t, verdict(planted), "event %d again at %d", i, at)
		}
	}
}

// A duplicate in the place of a loss leaves the counts right.
func TestOracleFindsADuplicateThatHidesALoss(t *testing.T) {
	planted := history()
	planted[4] = planted[3]
	diffs := verdict(planted)
	require.NotEmpty(t, diffs)
	assert.Equal(t, "event 0/67:1 brings version 2 of customers 1 after version 2", diffs[0])
}

func TestOracleFindsEveryReorderingOfARow(t *testing.T) {
	// Same key, so the order matters; events of different rows are in different partitions and have none.
	for _, swap := range [][2]int{{0, 3}, {3, 4}, {0, 4}, {1, 5}, {6, 7}} {
		planted := history()
		planted[swap[0]], planted[swap[1]] = planted[swap[1]], planted[swap[0]]
		assert.NotEmpty(t, verdict(planted), "events %v swapped", swap)
	}
	planted := history()
	planted[0], planted[1] = planted[1], planted[0]
	assert.Empty(t, verdict(planted), "two customers")
}

func TestOracleFindsWrongContent(t *testing.T) {
	change := func(i int, from, to string) []record {
		h := history()
		require.Contains(t, h[i].value, from)
		h[i].value = strings.Replace(h[i].value, from, to, 1)
		return h
	}
	key := func(i int, key string) []record {
		h := history()
		h[i].key = key
		return h
	}
	for name, planted := range map[string][]record{
		"value":            change(4, "Zoë", "Zoe"),
		"null as text":     change(4, `"city":null`, `"city":"null"`),
		"column lost":      change(4, `,"city":null`, ``),
		"column added":     change(4, `"city":null`, `"city":null,"x":1`),
		"digits":           change(2, "9007199254740993", "9007199254740992"),
		"key":              key(4, `{"id":2}`),
		"key is no JSON":   key(4, `1`),
		"key is empty":     key(4, ``),
		"key has more":     key(4, `{"id":1,"name":"Zoë"}`),
		"operation":        change(4, `"op":"u"`, `"op":"d"`),
		"truncate":         change(4, `"op":"u"`, `"op":"t"`),
		"table":            change(4, `"table":"customers"`, `"table":"orders"`),
		"not JSON":         change(4, `{"before"`, `{before`),
		"trailing garbage": change(4, `"}`, `"}}`),
		"invented":         append(history(), rec("products", "c", "1", 1, 9)),
	} {
		assert.NotEmpty(t, verdict(planted), name)
	}
}

func TestReplayKeepsFewFaults(t *testing.T) {
	r := newReplay()
	for i := range 1000 {
		r.apply(event{table: "customers", op: opDelete, key: fmt.Sprint(i), id: fmt.Sprint(i)})
	}
	diffs := compare(tally{{"customers", opDelete}: 1000}, nil, r)
	require.Len(t, diffs, maxFaults+1)
	assert.Equal(t, "event 0 is the delete of customers 0, which is not there", diffs[0])
	assert.Equal(t, "and 990 more events like these", diffs[maxFaults])
}
