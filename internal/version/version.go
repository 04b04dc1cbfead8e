// Package version says which build this is.
package version

import "runtime/debug"

// String returns the module's version, with the commit when the build carries one: "v1.2.3", or "devel (abc123)".
func String() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	v := info.Main.Version
	if v == "" || v == "(devel)" {
		v = "devel"
	}
	if v == "devel" {
		if c := Commit(); c != "" {
			v += " (" + c + ")"
		}
	}
	return v
}

// Commit returns the first twelve digits of the commit, or "" when the build does not carry it.
func Commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return s.Value[:12]
		}
	}
	return ""
}
