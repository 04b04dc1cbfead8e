package coordinator

import (
	"os"
	"testing"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }
