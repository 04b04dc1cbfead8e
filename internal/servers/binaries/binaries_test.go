package binaries

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMySQLIn(t *testing.T) {
	root := t.TempDir()
	lib := filepath.Join(root, "usr/lib/x86_64-linux-gnu")
	mysqld := filepath.Join(root, "usr/sbin/mysqld")
	require.NoError(t, os.MkdirAll(lib, 0o755))
	require.NoError(t, os.MkdirAll(filepath.Dir(mysqld), 0o755))
	loader := filepath.Join(lib, "ld-linux-x86-64.so.2")
	require.NoError(t, os.WriteFile(loader, nil, 0o755))
	_, ok := MySQLIn(root)
	require.False(t, ok, "no mysqld")
	require.NoError(t, os.WriteFile(mysqld, nil, 0o755))
	got, ok := MySQLIn(root)
	require.True(t, ok)
	require.Equal(t, MySQLServer{
		Command: []string{loader, "--library-path", lib, mysqld},
		Args:    []string{"--basedir=" + root + "/usr", "--lc-messages-dir=" + root + "/usr/share/mysql"},
	}, got)
}

func TestPgvectorIn(t *testing.T) {
	root := t.TempDir()
	lib, loaders := filepath.Join(root, "usr/lib/postgresql/18/lib"), filepath.Join(root, "usr/lib/x86_64-linux-gnu")
	require.NoError(t, os.MkdirAll(lib, 0o755))
	require.NoError(t, os.MkdirAll(loaders, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(lib, "vector.so"), nil, 0o755))
	_, ok := PgvectorIn(root)
	require.False(t, ok, "no loader")
	loader := filepath.Join(loaders, "ld-linux-x86-64.so.2")
	require.NoError(t, os.WriteFile(loader, nil, 0o755))
	got, ok := PgvectorIn(root)
	require.True(t, ok)
	require.Equal(t, PostgresExtensions{Loader: []string{loader, "--library-path", loaders}, Settings: []string{
		"dynamic_library_path=" + lib + ":$libdir", "extension_control_path=" + root + "/usr/share/postgresql/18:$system",
	}}, got)
}

func TestMissing(t *testing.T) {
	t.Setenv("DELTAFORGE_SERVERS", t.TempDir())
	t.Setenv("PATH", t.TempDir())
	t.Setenv("JAVA_HOME", "")
	_, err := Kafka()
	require.EqualError(t, err, "Apache Kafka is not installed: run `go run ./internal/servers/install`")
	_, err = Java()
	require.EqualError(t, err, "Java is not installed: run `apt-get install openjdk-17-jre-headless`, or `go run ./internal/servers/install`")
	dir, err := KafkaDir()
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(dir, 0o755))
	got, err := Kafka()
	require.NoError(t, err)
	require.Equal(t, dir, got)
}
