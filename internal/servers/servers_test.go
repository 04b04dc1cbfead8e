package servers

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// starters lists every server.
func starters() map[string]func(context.Context, Options) (*Server, error) {
	return map[string]func(context.Context, Options) (*Server, error){
		"PostgreSQL": func(ctx context.Context, opts Options) (*Server, error) {
			s, err := StartPostgres(ctx, opts)
			if err != nil {
				return nil, err
			}
			return s.Server, nil
		},
		"MySQL":   startMySQL(StartMySQL),
		"MariaDB": startMySQL(StartMariaDB),
		"Kafka": func(ctx context.Context, opts Options) (*Server, error) {
			s, err := StartKafka(ctx, opts)
			if err != nil {
				return nil, err
			}
			return s.Server, nil
		},
		"Redis": func(ctx context.Context, opts Options) (*Server, error) {
			s, err := StartRedis(ctx, opts)
			if err != nil {
				return nil, err
			}
			return s.Server, nil
		},
	}
}

func startMySQL(start func(context.Context, Options) (*MySQL, error)) func(context.Context, Options) (*Server, error) {
	return func(ctx context.Context, opts Options) (*Server, error) {
		s, err := start(ctx, opts)
		if err != nil {
			return nil, err
		}
		return s.Server, nil
	}
}

func TestStartStop(t *testing.T) {
	for name, start := range starters() {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			s, err := start(t.Context(), Options{NoSync: true})
			require.NoError(t, err)
			t.Logf("start %v", time.Since(began))
			began = time.Now()
			require.NoError(t, s.Restart(t.Context()))
			t.Logf("restart %v", time.Since(began))
			require.NoError(t, s.Kill())
			began = time.Now()
			require.NoError(t, s.Start(t.Context()))
			t.Logf("start after kill %v", time.Since(began))
			require.NoError(t, s.Close())
			_, err = os.Stat(filepath.Dir(s.path("x")))
			require.ErrorIs(t, err, os.ErrNotExist)
		})
	}
}
