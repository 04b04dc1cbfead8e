package redisout

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.MainWithoutLeaks(m)) }

func parse(conf string) (*config, error) {
	p, err := spec().ParseYAML(conf, nil)
	if err != nil {
		return nil, err
	}
	return parseConfig(p)
}

func newTestOutput(t testing.TB, conf string) *output {
	t.Helper()
	c, err := parse(conf)
	require.NoError(t, err)
	o := newOutput(c, service.MockResources())
	t.Cleanup(func() { require.NoError(t, o.Close(context.Background())) })
	return o
}

// connectedAtLast is connected where conf has less patience than a busy machine needs.
func connectedAtLast(t testing.TB, conf string) *output {
	t.Helper()
	o := newTestOutput(t, conf)
	require.Eventually(t, func() bool { return o.Connect(t.Context()) == nil }, 2*time.Minute, 20*time.Millisecond)
	return o
}

func connected(t testing.TB, conf string) *output {
	t.Helper()
	o := newTestOutput(t, conf)
	require.NoError(t, o.Connect(t.Context()))
	return o
}

// changed makes a message as an input does; an empty key is left out.
func changed(table, op, key, id, payload string) *service.Message {
	m := service.NewMessage([]byte(payload))
	m.MetaSetMut("database", "shop")
	m.MetaSetMut("table", table)
	m.MetaSetMut("op", op)
	m.MetaSetMut("event_id", id)
	if key != "" {
		m.MetaSetMut("key", key)
	}
	return m
}

// numbered makes n changes to the tables in turn, whose payload is their number.
func numbered(from, n int, tables ...string) service.MessageBatch {
	b := make(service.MessageBatch, n)
	for i := range b {
		k := from + i
		b[i] = changed(tables[k%len(tables)], "u", fmt.Sprintf(`{"id":%d}`, k), fmt.Sprintf("tx:%d", k), fmt.Sprint(k))
	}
	return b
}

// engine writes a batch the way the engine does: as long as the output is not connected, it connects and writes the
// same messages again, wrapped anew. It returns what Connect said meanwhile.
func engine(t testing.TB, o *output, b service.MessageBatch) (error, []error) { //nolint:staticcheck // the first is the result
	t.Helper()
	var causes []error
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); {
		err := o.WriteBatch(t.Context(), b.Copy())
		if err != service.ErrNotConnected { //nolint:errorlint // the engine compares too
			return err, causes
		}
		for {
			err := o.Connect(t.Context())
			if err == nil {
				break
			}
			causes = append(causes, err)
			time.Sleep(20 * time.Millisecond)
		}
	}
	t.Fatal("never delivered")
	return nil, nil
}

func cause(err error) error {
	if b, ok := err.(*service.ErrBackOff); ok { //nolint:errorlint // as Connect returns it
		return b.Err
	}
	return err
}
