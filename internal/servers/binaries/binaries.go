// Package binaries knows where the database servers, brokers and their runtimes are installed. The install command puts
// them there, and package servers runs them; this package only looks.
package binaries

import (
	"crypto/sha256"
	_ "embed" // the Maven projects
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

//go:embed pom.xml
var kafkaPOM string

// KafkaPOM returns the Maven project whose runtime dependencies are the Kafka broker.
func KafkaPOM() string { return kafkaPOM }

//go:embed debezium.xml
var debeziumPOM string

// DebeziumPOM returns the Maven project whose runtime dependencies are Debezium's connectors, and a compiler.
func DebeziumPOM() string { return debeziumPOM }

//go:embed Engine.java
var debeziumEngine string

// DebeziumEngine returns the program that runs a connector and prints its records.
func DebeziumEngine() string { return debeziumEngine }

// MissingError says that something is not installed, and which Debian package brings it. Package is empty for what only
// the install command brings.
type MissingError struct {
	Name    string
	Package string
}

func (e *MissingError) Error() string {
	if e.Package == "" {
		return e.Name + " is not installed: run `go run ./internal/servers/install`"
	}
	return fmt.Sprintf("%s is not installed: run `apt-get install %s`, or `go run ./internal/servers/install`", e.Name, e.Package)
}

// Prefix is the directory for what does not come as a package of this system: DELTAFORGE_SERVERS, or
// deltaforge/servers in the user's cache directory. It may not exist yet.
func Prefix() (string, error) {
	if dir := os.Getenv("DELTAFORGE_SERVERS"); dir != "" {
		return filepath.Abs(dir)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding a directory for servers (DELTAFORGE_SERVERS can name one): %w", err)
	}
	return filepath.Join(cache, "deltaforge", "servers"), nil
}

// Postgres returns the directory that holds postgres and initdb: the highest major of the distribution's, else the one
// in PATH.
func Postgres() (string, error) {
	best, dir := -1, ""
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		return "", err
	}
	for _, path := range found {
		bin := filepath.Dir(path)
		major, err := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
		if err == nil && major > best && executable(filepath.Join(bin, "initdb")) {
			best, dir = major, bin
		}
	}
	if dir != "" {
		return dir, nil
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil && executable(filepath.Join(filepath.Dir(path), "initdb")) {
			return filepath.Dir(path), nil
		}
	}
	return "", &MissingError{Name: "PostgreSQL", Package: "postgresql"}
}

// EmbeddedPostgresMajor is the version of the PostgreSQL that is fetched.
const EmbeddedPostgresMajor = "18"

// EmbeddedPostgres is where a fetched PostgreSQL is kept, whether it is there or not.
func EmbeddedPostgres() (string, error) { return EmbeddedPostgresOf(EmbeddedPostgresMajor) }

// EmbeddedPostgresOf is where the fetched PostgreSQL of a major version is kept, whether it is there or not.
func EmbeddedPostgresOf(major string) (string, error) {
	prefix, err := Prefix()
	if err != nil {
		return "", err
	}
	return filepath.Join(prefix, "postgres-"+major), nil
}

// PgvectorDir is where pgvector for the fetched PostgreSQL belongs, whether it is there or not.
func PgvectorDir() (string, error) {
	prefix, err := Prefix()
	if err != nil {
		return "", err
	}
	return filepath.Join(prefix, "pgvector-"+EmbeddedPostgresMajor), nil
}

// PostgresExtensions are extensions for the fetched PostgreSQL.
type PostgresExtensions struct {
	// Loader is the program, and the arguments of it, that PostgreSQL has to be started with: they are built against a newer C library
	// than the system's.
	Loader []string
	// Settings tell PostgreSQL where they are.
	Settings []string
}

// PgvectorIn describes the pgvector of Debian packages that were unpacked into root. It reports false when root has none.
func PgvectorIn(root string) (PostgresExtensions, bool) {
	library := filepath.Join(root, "usr/lib/postgresql", EmbeddedPostgresMajor, "lib")
	_, err := os.Stat(filepath.Join(library, "vector.so"))
	loader, ok := loaderIn(root)
	if err != nil || !ok {
		return PostgresExtensions{}, false
	}
	return PostgresExtensions{Loader: loader, Settings: []string{
		"dynamic_library_path=" + library + ":$libdir",
		"extension_control_path=" + filepath.Join(root, "usr/share/postgresql", EmbeddedPostgresMajor) + ":$system",
	}}, true
}

// loaderIn returns the command that runs programs with the C library of the Debian packages in root.
func loaderIn(root string) ([]string, bool) {
	loaders, err := filepath.Glob(filepath.Join(root, "usr/lib/*/ld-linux-*.so.*"))
	if err != nil || len(loaders) != 1 {
		return nil, false
	}
	return []string{loaders[0], "--library-path", filepath.Dir(loaders[0])}, true
}

// MySQLServer is a way to run mysqld.
type MySQLServer struct {
	// Command is the program and the arguments that come before mysqld's own.
	Command []string
	// Args are mysqld arguments that this installation needs, after --no-defaults.
	Args []string
}

// MySQL returns the mysqld of the private prefix, else the system's. MariaDB installs a program of the same name; that
// one is not taken.
func MySQL() (MySQLServer, error) {
	prefix, err := Prefix()
	if err != nil {
		return MySQLServer{}, err
	}
	if server, ok := MySQLIn(filepath.Join(prefix, "mysql")); ok {
		return server, nil
	}
	path, err := lookPath("mysqld")
	if err == nil {
		if version, err := exec.Command(path, "--version").Output(); err == nil && !strings.Contains(string(version), "MariaDB") { //nolint:noctx // prints a line and ends
			return MySQLServer{Command: []string{path}}, nil
		}
	}
	return MySQLServer{}, &MissingError{Name: "MySQL"}
}

// MySQLIn describes the mysqld of Debian packages that were unpacked into root, which is run through their own loader
// because it is built against a newer C library than the system's. It reports false when root has none.
func MySQLIn(root string) (MySQLServer, bool) {
	mysqld := filepath.Join(root, "usr/sbin/mysqld")
	loader, ok := loaderIn(root)
	if !ok || !executable(mysqld) {
		return MySQLServer{}, false
	}
	return MySQLServer{
		Command: append(loader, mysqld),
		Args: []string{
			"--basedir=" + filepath.Join(root, "usr"),
			"--lc-messages-dir=" + filepath.Join(root, "usr/share/mysql"),
		},
	}, true
}

// MariaDB returns mariadbd and mariadb-install-db.
func MariaDB() (server, installDB string, err error) {
	server, err = lookPath("mariadbd")
	if err == nil {
		installDB, err = lookPath("mariadb-install-db")
	}
	if err != nil {
		return "", "", &MissingError{Name: "MariaDB", Package: "mariadb-server"}
	}
	return server, installDB, nil
}

// Redis returns redis-server.
func Redis() (string, error) {
	path, err := lookPath("redis-server")
	if err != nil {
		return "", &MissingError{Name: "Redis", Package: "redis-server"}
	}
	return path, nil
}

// Java returns the java program of JAVA_HOME or PATH.
func Java() (string, error) {
	if home := os.Getenv("JAVA_HOME"); home != "" {
		if path := filepath.Join(home, "bin/java"); executable(path) {
			return path, nil
		}
	}
	path, err := lookPath("java")
	if err != nil {
		return "", &MissingError{Name: "Java", Package: "openjdk-17-jre-headless"}
	}
	return path, nil
}

// Maven returns mvn.
func Maven() (string, error) {
	path, err := lookPath("mvn")
	if err != nil {
		return "", &MissingError{Name: "Maven", Package: "maven"}
	}
	return path, nil
}

// Prometheus returns the programs prometheus and promtool.
func Prometheus() (server, promtool string, err error) {
	server, err = lookPath("prometheus")
	if err == nil {
		promtool, err = lookPath("promtool")
	}
	if err != nil {
		return "", "", &MissingError{Name: "Prometheus", Package: "prometheus"}
	}
	return server, promtool, nil
}

// KafkaDir is where the jars of the current KafkaPOM belong, whether they are there or not.
func KafkaDir() (string, error) { return dirOf("kafka-", kafkaPOM) }

// DebeziumDir is where the jars of the current DebeziumPOM and the compiled DebeziumEngine belong, whether they are there or not.
func DebeziumDir() (string, error) { return dirOf("debezium-", debeziumPOM+debeziumEngine) }

// dirOf returns a directory named after what it is made of.
func dirOf(name, content string) (string, error) {
	prefix, err := Prefix()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(content))
	return filepath.Join(prefix, name+hex.EncodeToString(sum[:6])), nil
}

// Debezium returns the directory of Debezium's jars and of the program that runs it.
func Debezium() (string, error) {
	dir, err := DebeziumDir()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(dir); err != nil {
		return "", &MissingError{Name: "Debezium"}
	}
	return dir, nil
}

// Kafka returns the directory of the broker's jars.
func Kafka() (string, error) {
	dir, err := KafkaDir()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(dir); err != nil {
		return "", &MissingError{Name: "Apache Kafka"}
	}
	return dir, nil
}

// lookPath also searches the directories of system programs, which an ordinary user's PATH leaves out on Debian.
func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin"} {
		if path := filepath.Join(dir, name); executable(path) {
			return path, nil
		}
	}
	return "", err
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
