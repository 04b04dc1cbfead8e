package metrics

import (
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
)

// module is where the version of DeltaForge is looked for when it is built into another binary.
const module = "github.com/deltaforge/deltaforge"

// addBuildInfo sets the build_info series from what the Go toolchain has put into the binary. A binary that knows
// better emits the stat itself, and its word replaces this one.
func (s *stats) addBuildInfo() {
	version, commit := "unknown", "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		version, commit = versionOf(info)
	}
	labels := prometheus.Labels{"version": version, "commit": commit, "go_version": runtime.Version()}
	s.register("build_info", gaugeKind, nil).family.handle(labelSet{labels: labels}, false).(*gauge).Set(1)
}

func versionOf(info *debug.BuildInfo) (version, commit string) {
	version, commit = "unknown", "unknown"
	if info.Main.Path == module {
		if info.Main.Version != "" {
			version = info.Main.Version
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				commit = s.Value
			}
		}
		return version, commit
	}
	for _, dep := range info.Deps {
		if dep.Path == module {
			version = dep.Version
		}
	}
	return version, commit
}
