package servers

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/deltaforge/deltaforge/internal/servers/binaries"
)

// Registry is a schema registry with Confluent's API. It forgets everything when it ends.
type Registry struct{ *Server }

// StartRegistry starts a schema registry.
func StartRegistry(ctx context.Context, opts Options) (*Registry, error) {
	dir, err := binaries.Registry()
	if err != nil {
		return nil, err
	}
	java, err := binaries.Java()
	if err != nil {
		return nil, err
	}
	server, err := newServer("the schema registry", opts)
	if err != nil {
		return nil, err
	}
	s := &Registry{Server: server}
	jars, err := filepath.Glob(filepath.Join(dir, "*-runner.jar"))
	if err != nil || len(jars) != 1 {
		return nil, s.abandon(fmt.Errorf("%s has no registry that runs", dir))
	}
	args := []string{
		java, "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dquarkus.http.host=127.0.0.1",
		"-Dquarkus.http.port=" + strconv.Itoa(s.port), "-jar", jars[0],
	}
	s.command = func() command { return command{args: args} }
	s.stop = syscall.SIGTERM
	s.probe = s.ask
	if err := s.Start(ctx); err != nil {
		return nil, s.abandon(err)
	}
	return s, nil
}

// RegistryPath is where the API of a Registry is.
const RegistryPath = "/apis/ccompat/v7"

// URL is the address of the API.
func (s *Registry) URL() string { return "http://" + s.addr + RegistryPath }

func (s *Registry) ask(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL()+"/subjects", nil)
	if err != nil {
		return err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", resp.Status)
	}
	return nil
}
