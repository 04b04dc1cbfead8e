package metrics

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// closeTimeout bounds how long Close waits for a scrape in progress.
const closeTimeout = 5 * time.Second

// writeTimeout bounds the making and the sending of a page: a client that does not read must not keep the connection.
const writeTimeout = time.Minute

// server serves /metrics on a listener of its own.
type server struct {
	http     http.Server
	listener net.Listener
	stop     chan struct{} // closed when serving is to end
	done     chan struct{} // closed when serving has ended
	once     sync.Once
}

// listen opens the listener and starts serving. An address in use is an error at once: otherwise somebody finds out
// later that the page is missing, or is another process's.
func listen(address string, page http.Handler, log *service.Logger, p panics) (*server, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(context.Background(), "tcp", address) // the engine gives a constructor no context
	if err != nil {
		return nil, fmt.Errorf("listening for metrics on %s: %w; choose another %s, or an empty one to serve on the engine's HTTP server only",
			address, err, fieldAddress)
	}
	return serve(listener, page, log, p), nil
}

func serve(listener net.Listener, page http.Handler, log *service.Logger, p panics) *server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", page)
	s := &server{
		http: http.Server{
			Handler: mux, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second,
			WriteTimeout: writeTimeout, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		},
		listener: listener,
		stop:     make(chan struct{}), done: make(chan struct{}),
	}
	log = log.With(fieldAddress, listener.Addr().String())
	go func() {
		defer close(s.done)
		defer p.caught()
		for !s.serve(log, p) {
			select {
			case <-time.After(serveAgain):
			case <-s.stop:
			}
		}
	}()
	log.Info("Serving metrics")
	return s
}

// serveAgain is how long serving waits after a panic.
const serveAgain = 100 * time.Millisecond

// serve serves until the server is closed. It returns false when it has panicked, and is to be called again.
func (s *server) serve(log *service.Logger, p panics) (ended bool) {
	defer p.caught()
	err := s.http.Serve(lasting{s.listener}) // a panic would close it
	select {
	case <-s.stop:
	default:
		log.With("error", err).Error("Metrics listener ended")
	}
	return true
}

// lasting is a listener that stays open when a server that uses it ends.
type lasting struct{ net.Listener }

// Close implements net.Listener.
func (lasting) Close() error { return nil }

// close lets scrapes in progress end, for at most closeTimeout. It may be called more than once.
func (s *server) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	s.once.Do(func() {
		close(s.stop)
		_ = s.listener.Close() // nothing is to be done about it
	})
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("closing the metrics listener: %w", err), s.http.Close())
	}
	<-s.done
	return err
}
