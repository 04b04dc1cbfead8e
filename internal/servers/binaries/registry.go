package binaries

import (
	_ "embed" // the Maven project and the program
	"os"
)

//go:embed registry.xml
var registryPOM string

// RegistryPOM returns the Maven project whose runtime dependencies are a schema registry, as an archive, and a compiler.
func RegistryPOM() string { return registryPOM }

//go:embed Reader.java
var registryReader string

// RegistryReader returns the program that reads with a schema registry.
func RegistryReader() string { return registryReader }

// RegistryDir is where the registry of the current RegistryPOM and the compiled RegistryReader belong, whether they are there or not.
func RegistryDir() (string, error) { return dirOf("registry-", registryPOM+registryReader) }

// Registry returns the directory of the registry and of the program that reads with it.
func Registry() (string, error) {
	dir, err := RegistryDir()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(dir); err != nil {
		return "", &MissingError{Name: "The schema registry"}
	}
	return dir, nil
}
