package servers

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"syscall"

	"github.com/deltaforge/deltaforge/internal/servers/binaries"
)

// SentinelMaster is the name that sentinels have for the primary that they watch.
const SentinelMaster = "mymaster"

// StartSentinel starts a Redis Sentinel that watches a primary: when the primary is gone for half a second and quorum sentinels agree, they make a replica the primary.
func StartSentinel(ctx context.Context, primary *Redis, quorum int, opts Options) (*Redis, error) {
	bin, err := binaries.Redis()
	if err != nil {
		return nil, err
	}
	server, err := newServer("Sentinel", opts)
	if err != nil {
		return nil, err
	}
	s := &Redis{Server: server, url: url.URL{Scheme: "redis", Host: server.addr}}
	host, port, err := net.SplitHostPort(primary.Addr())
	if err != nil {
		return nil, s.abandon(err)
	}
	conf := fmt.Sprintf("port %s\nbind 127.0.0.1\ndir %s\nsentinel monitor %s %s %s %d\nsentinel down-after-milliseconds %[3]s 500\nsentinel failover-timeout %[3]s 5000\n",
		strconv.Itoa(s.port), s.dir, SentinelMaster, host, port, quorum)
	path := s.path("sentinel.conf")
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		return nil, s.abandon(err)
	}
	s.command = func() command { return command{args: []string{bin, path, "--sentinel"}} }
	s.stop = syscall.SIGTERM
	s.probe = s.ping
	if err := s.Start(ctx); err != nil {
		return nil, s.abandon(err)
	}
	return s, nil
}
