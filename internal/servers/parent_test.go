package servers_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

const parentEnv = "DELTAFORGE_SERVERS_TEST_PARENT"

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// TestParent is the process that TestDiesWithParent kills.
func TestParent(t *testing.T) {
	if os.Getenv(parentEnv) == "" {
		t.Skip("only runs inside TestDiesWithParent")
	}
	starts := []func() *servers.Server{
		func() *servers.Server { return testenv.StartPostgres(t, servers.Options{}).Server },
		func() *servers.Server { return testenv.StartMySQL(t, servers.Options{}).Server },
		func() *servers.Server { return testenv.StartMariaDB(t, servers.Options{}).Server },
		func() *servers.Server { return testenv.StartKafka(t, servers.Options{}).Server },
		func() *servers.Server { return testenv.StartRedis(t, servers.Options{}).Server },
	}
	var group sync.WaitGroup
	for _, start := range starts {
		group.Go(func() {
			s := start()
			fmt.Println("server", s.Name(), s.PID())
		})
	}
	group.Wait()
	fmt.Println("ready")
	time.Sleep(5 * time.Minute) // the other test kills us
	t.Error("nobody killed this process")
}

func TestDiesWithParent(t *testing.T) {
	if testing.Short() {
		t.Skip("needs real servers; -short is set")
	}
	parent := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestParent$", "-test.v")
	// The temporary directories of a killed process stay; here they go with the test's.
	parent.Env = append(os.Environ(), parentEnv+"=1", "DELTAFORGE_REQUIRE_SERVERS=", "TMPDIR="+openTempDir(t))
	parent.Stderr = os.Stderr
	out, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	pids := map[string]int{}
	t.Cleanup(func() {
		for _, pid := range pids {
			if !gone(pid) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	})
	ready := false
	lines := bufio.NewScanner(out)
	for !ready && lines.Scan() {
		line := lines.Text()
		switch fields := strings.Fields(line); {
		case len(fields) == 3 && fields[0] == "server":
			pids[fields[1]], err = strconv.Atoi(fields[2])
			require.NoError(t, err)
		case line == "ready":
			ready = true
		case strings.Contains(line, "NOT TESTED"):
			_ = parent.Wait()
			if os.Getenv("DELTAFORGE_REQUIRE_SERVERS") == "" && os.Getenv("CI") != "true" {
				t.Skip(line)
			}
			t.Fatal(line)
		}
	}
	require.True(t, ready, "the parent ended early")
	require.Len(t, pids, 5)
	for name, pid := range pids {
		require.NoError(t, syscall.Kill(pid, 0), name)
	}
	require.NoError(t, parent.Process.Kill())
	_ = parent.Wait()
	for name, pid := range pids {
		require.Eventually(t, func() bool { return gone(pid) }, time.Minute, 20*time.Millisecond, "%s outlives its parent", name)
	}
}

// gone reports whether a process has ended, also when nobody has asked for its status yet.
func gone(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(after, "Z")
}
