package servers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"syscall"

	"github.com/redis/go-redis/v9"

	"github.com/deltaforge/deltaforge/internal/servers/binaries"
)

// Redis is a Redis server. It forgets everything when it ends, unless Options.Args has "--appendonly", "yes".
type Redis struct {
	*Server
	url     url.URL
	tlsPort int
}

// StartRedis starts a Redis. With Options.TLS it listens for encrypted connections on TLSAddr.
func StartRedis(ctx context.Context, opts Options) (*Redis, error) {
	bin, err := binaries.Redis()
	if err != nil {
		return nil, err
	}
	server, err := newServer("Redis", opts)
	if err != nil {
		return nil, err
	}
	s := &Redis{Server: server, url: url.URL{Scheme: "redis", Host: server.addr, Path: "/0"}}
	args := []string{
		bin, "--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir, "--daemonize", "no",
		"--save", "", "--appendonly", "no",
	}
	if opts.Password != "" {
		s.url.User = url.UserPassword("", opts.Password)
		args = append(args, "--requirepass", opts.Password)
	}
	if opts.TLS {
		cert, err := s.writeCertificate()
		if err != nil {
			return nil, s.abandon(err)
		}
		if s.tlsPort, err = FreePort(); err != nil {
			return nil, s.abandon(err)
		}
		args = append(args, "--tls-port", strconv.Itoa(s.tlsPort), "--tls-cert-file", cert.cert, "--tls-key-file", cert.key,
			"--tls-ca-cert-file", cert.cert, "--tls-auth-clients", "no")
	}
	args = append(args, opts.Args...)
	s.command = func() command { return command{args: args} }
	s.stop = syscall.SIGTERM
	s.probe = s.ping
	if err := s.Start(ctx); err != nil {
		return nil, s.abandon(err)
	}
	return s, nil
}

// ConnectRedis describes a Redis that somebody else runs, by its URL.
func ConnectRedis(ctx context.Context, dsn string) (*Redis, error) {
	parsed, err := url.Parse(dsn)
	if err != nil {
		return nil, fmt.Errorf("parsing the Redis URL: %w", errors.Unwrap(err)) // the whole error would show the password
	}
	s := &Redis{Server: externalServer("Redis", parsed.Host), url: *parsed}
	return s, s.ping(ctx)
}

// URL is what redis.ParseURL takes.
func (s *Redis) URL() string { return s.url.String() }

// TLSAddr is the host:port for encrypted connections. Empty without TLS.
func (s *Redis) TLSAddr() string {
	if s.tlsPort == 0 {
		return ""
	}
	return "127.0.0.1:" + strconv.Itoa(s.tlsPort)
}

func (s *Redis) ping(ctx context.Context) error {
	opts, err := redis.ParseURL(s.URL())
	if err != nil {
		return fmt.Errorf("parsing the Redis URL of %s: %w", s.addr, err)
	}
	// The client retries and logs what is normal while a server starts, so it is only asked when somebody listens.
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", opts.Addr)
	if err != nil {
		return err
	}
	_ = conn.Close()
	client := redis.NewClient(opts)
	return errors.Join(client.Ping(ctx).Err(), client.Close())
}
