package mysqlcdc

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/wire"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/testenv"
	"github.com/deltaforge/deltaforge/internal/testenv/plant"
)

// A panic on the goroutine that closes a connection is told, and goes no further. That of the log itself is the coordinator's.
func TestPanicWhileClosing(t *testing.T) {
	srv, err := wire.ParseDSN(testenv.MySQL(t).UserDSN(""))
	require.NoError(t, err)
	res, caught := plant.Resources(t, "panics_total@connection")
	l := newLog(config{server: srv, source: &change.Source{Name: "orders"}}, res)
	l.cfg.server.ReadTimeout = patience
	ctx, cancel := context.WithCancel(t.Context())
	first, err := l.cfg.server.Connect(ctx)
	require.NoError(t, err)
	cancel()
	require.Eventually(t, func() bool { // it is counted, and then told
		return caught.Count("connection") == 1 && strings.Contains(caught.Log(), "Panic in the connection of orders: planted")
	}, patience, patience/1000)
	_, err = first.Query(t.Context(), "DO 1")
	require.NoError(t, err, "closed by nobody")
	first.Close()

	ctx, cancel = context.WithCancel(t.Context())
	second, err := l.cfg.server.Connect(ctx)
	require.NoError(t, err)
	cancel()
	require.Eventually(t, func() bool {
		_, err := second.Query(t.Context(), "DO 1")
		return err != nil
	}, patience, patience/1000)
	second.Close()
}
