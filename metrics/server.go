package metrics

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// closeTimeout bounds how long Close waits for a scrape in progress.
const closeTimeout = 5 * time.Second

// server serves /metrics on a listener of its own.
type server struct {
	http http.Server
	done chan struct{} // closed when serving has ended
}

// listen opens the listener and starts serving. An address in use is an error: a page that is not there, or that is
// another process's, must not be found out later.
func listen(address string, page http.Handler, log *service.Logger, p panics) (*server, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(context.Background(), "tcp", address) // the engine gives a constructor no context
	if err != nil {
		return nil, fmt.Errorf("listening for metrics on %s: %w; choose another %s, or an empty one to serve on the engine's HTTP server only",
			address, err, fieldAddress)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", page)
	s := &server{http: http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}, done: make(chan struct{})}
	log = log.With(fieldAddress, listener.Addr().String())
	go func() {
		defer close(s.done)
		defer p.caught()
		if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.With("error", err).Error("Metrics listener ended")
		}
	}()
	log.Info("Serving metrics")
	return s, nil
}

// close lets scrapes in progress end, for at most closeTimeout. It may be called more than once.
func (s *server) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("closing the metrics listener: %w", err), s.http.Close())
	}
	<-s.done
	return err
}
