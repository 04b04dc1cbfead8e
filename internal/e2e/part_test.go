package e2e

import (
	"hash/fnv"
	"os"
	"testing"
)

const (
	// longEnv asks for the long variants of the fault tests, and for all of them.
	longEnv = "DELTAFORGE_TEST_LONG"
	// commitEnv is the commit that is tested. It chooses the part of the long tests that a short run takes.
	commitEnv = "DELTAFORGE_TEST_COMMIT"
	// parts is how many parts the long tests are cut into.
	parts = 8
)

func long() bool { return os.Getenv(longEnv) != "" }

// part has a long test run where all of them do, or where the commit has chosen it. Each has a number.
func part(t *testing.T, number int) {
	t.Helper()
	h := fnv.New32a()
	_, _ = h.Write([]byte(os.Getenv(commitEnv)))
	switch chosen := int(h.Sum32() % parts); {
	case testing.Short():
		t.Skip("needs servers, left out under -short")
	case !long() && number%parts != chosen:
		t.Skipf("part %d of the long tests; this commit takes part %d; `task test:faults` takes all", number%parts, chosen)
	}
	t.Logf("part %d of the long tests", number%parts)
}
