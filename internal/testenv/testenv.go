// Package testenv gives tests real servers. Postgres, MySQL, MariaDB, Kafka and Redis return one that all tests of the process
// share: the one that an environment variable names (DELTAFORGE_TEST_POSTGRES and so on, see the Env constants), else one
// that is started from installed binaries. StartPostgres and its sisters return one for a single test, which may kill it.
//
// Under -short, tests that ask for a server are skipped. When a server cannot be started they are skipped too, but fail if CI is
// "true" or DELTAFORGE_REQUIRE_SERVERS is set.
//
// A package that uses a shared server calls Main:
//
//	func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }
package testenv

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/deltaforge/deltaforge/internal/servers"
)

// Environment variables that name servers to use instead of starting some.
const (
	EnvPostgres = "DELTAFORGE_TEST_POSTGRES" // URL of an administrator's database
	EnvMySQL    = "DELTAFORGE_TEST_MYSQL"    // administrator's DSN: user:password@tcp(host:port)/
	EnvMariaDB  = "DELTAFORGE_TEST_MARIADB"  // the same
	EnvKafka    = "DELTAFORGE_TEST_KAFKA"    // host:port,host:port
	EnvRedis    = "DELTAFORGE_TEST_REDIS"    // redis://:password@host:port/db
)

// wait bounds every helper that waits for data or for a server.
const wait = 5 * time.Minute

// shared holds the servers that the tests of this process share.
//
//nolint:gochecknoglobals // tests of one package have no other place to share a server in
var shared = struct {
	postgres one[*servers.Postgres]
	mysql    one[*servers.MySQL]
	mariadb  one[*servers.MySQL]
	kafka    one[*servers.Kafka]
	redis    one[*servers.Redis]
}{}

// one starts a server at most once.
type one[T interface{ Close() error }] struct {
	mu     sync.Mutex
	tried  bool // guarded by mu, as are the others
	server T
	err    error
}

// get returns the server that env names, or starts one.
func (o *one[T]) get(env string, connect func(context.Context, string) (T, error), start startFunc[T]) (T, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.tried {
		return o.server, o.err
	}
	o.tried = true
	// Not a test's context: the server outlives the test that comes first.
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	if dsn := os.Getenv(env); dsn != "" {
		o.server, o.err = connect(ctx, dsn)
		if o.err != nil {
			o.err = fmt.Errorf("using the server that %s names: %w", env, o.err)
		}
		return o.server, o.err
	}
	o.server, o.err = start(ctx, servers.Options{NoSync: true})
	return o.server, o.err
}

func (o *one[T]) close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.tried || o.err != nil {
		return nil
	}
	return o.server.Close()
}

type startFunc[T any] func(context.Context, servers.Options) (T, error)

// Main runs the tests, closes the servers they shared and returns the exit code. The run fails when a password of the servers, or one
// that tests make up, is in what tests gave to Said.
func Main(m *testing.M) int {
	if err := beginWatch(); err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
		return 1
	}
	code := m.Run()
	if err := endWatch(); err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
		code = max(code, 1)
	}
	err := errors.Join(shared.postgres.close(), shared.mysql.close(), shared.mariadb.close(), shared.kafka.close(), shared.redis.close())
	if err != nil {
		fmt.Fprintln(os.Stderr, "testenv: closing servers:", err)
		return max(code, 1)
	}
	return code
}

// MainWithoutLeaks is Main for a package whose tests must leave no goroutine behind. Those that are on their way out have a minute: a
// busy machine may not let them run for a while.
func MainWithoutLeaks(m *testing.M, options ...goleak.Option) int {
	code := Main(m)
	var err error
	for end := time.Now().Add(time.Minute); code == 0 && time.Now().Before(end); {
		if err = goleak.Find(options...); err == nil {
			return 0
		}
	}
	if code == 0 {
		fmt.Fprintln(os.Stderr, "testenv: the tests have left goroutines behind:", err)
	}
	return max(code, 1)
}

// sharedServer is get for a test.
func sharedServer[T interface{ Close() error }](
	t testing.TB, o *one[T], env string, connect func(context.Context, string) (T, error), start startFunc[T],
) T {
	t.Helper()
	skipShort(t)
	server, err := o.get(env, connect, start)
	if err != nil {
		unavailable(t, err)
	}
	return server
}

// privateServer starts a server for one test.
func privateServer[T interface{ Close() error }](t testing.TB, opts servers.Options, start startFunc[T]) T {
	t.Helper()
	skipShort(t)
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	server, err := start(ctx, opts)
	if err != nil {
		unavailable(t, err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Errorf("closing a server: %v", err)
		}
	})
	return server
}

func skipShort(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a real server; -short is set")
	}
}

// unavailable skips the test, or fails it where all servers have to be there.
func unavailable(t testing.TB, err error) {
	t.Helper()
	if os.Getenv("CI") == "true" || os.Getenv("DELTAFORGE_REQUIRE_SERVERS") != "" {
		t.Fatalf("a server that this run requires is not available: %v", err)
	}
	t.Skipf("NOT TESTED, a server is not available (DELTAFORGE_REQUIRE_SERVERS=1 makes this a failure): %v", err)
}

// envSeed sets what Seed returns.
const envSeed = "DELTAFORGE_SEED"

// Seed returns the seed of a test with random input: the same in every run, so that a change is judged by what it has changed, unless
// DELTAFORGE_SEED says otherwise. The tasks test:types and test:schema, which look for what is not known yet, take another one
// each time. It is logged, to be used again.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := uint64(1)
	if text := os.Getenv(envSeed); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", envSeed, err)
		}
		seed = n
	}
	t.Logf("%s=%d makes the same random choices again", envSeed, seed)
	return seed
}

// Name returns a name that no other test or run uses, which begins with that of the test: letters, digits and
// underscores, at most 48 bytes, fit for a database, a topic, a slot or a key.
func Name(t testing.TB) string {
	t.Helper()
	random := make([]byte, 5)
	if _, err := rand.Read(random); err != nil {
		t.Fatalf("making a name: %v", err)
	}
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(t.Name()))
	return clean[:min(len(clean), 37)] + "_" + hex.EncodeToString(random)
}

// FreeAddr returns an address of this machine at which nobody listens.
func FreeAddr(t testing.TB) string {
	t.Helper()
	port, err := servers.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// cleanupContext is for what a test undoes at its end, when its own context is over.
func cleanupContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), wait)
}
