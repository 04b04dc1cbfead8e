package checkpoint

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	_ "github.com/redpanda-data/benthos/v4/public/components/pure" // the engine's own parts of a stream
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

// holderEnv makes the test binary a process that locks the key "k" of a store, says so, and waits.
const holderEnv = "CHECKPOINT_TEST_HOLD"

func TestMain(m *testing.M) {
	if path := os.Getenv(holderEnv); path != "" {
		s, err := OpenSQLite(context.Background(), path)
		if err == nil {
			err = s.Set(context.Background(), "k", []byte("held"))
		}
		if err != nil {
			_, _ = os.Stdout.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		_, _ = os.Stdout.WriteString("held\n")
		time.Sleep(time.Minute)
		os.Exit(0)
	}
	os.Exit(testenv.Main(m))
}

func open(t *testing.T, path string) *SQLite {
	s, err := OpenSQLite(t.Context(), path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestSQLiteKeepsRecords(t *testing.T) {
	path := filepath.Join(testenv.TempDir(t), "with space#?%.db")
	s := open(t, path)
	_, err := s.Get(t.Context(), "k")
	require.ErrorIs(t, err, ErrNotFound)
	now := time.Date(2024, 2, 29, 1, 2, 3, 4, time.FixedZone("x", 3600))
	tok := Token{Source: "server", Commit: Text("gtid-1"), Sent: 3}
	require.NoError(t, Save(t.Context(), s, "k", "mysql", tok, now))
	added, err := s.Add(t.Context(), "k", []byte("other"))
	require.NoError(t, err)
	assert.False(t, added)
	added, err = s.Add(t.Context(), "j", []byte("new"))
	require.NoError(t, err)
	assert.True(t, added)
	require.NoError(t, s.Close())

	s, err = OpenExistingSQLite(t.Context(), path)
	require.NoError(t, err)
	got, err := Load(t.Context(), s, "k", "mysql")
	require.NoError(t, err)
	assert.Equal(t, tok, got)
	raw, err := s.Peek(t.Context(), "k")
	require.NoError(t, err)
	assert.Equal(t, `{"version":2,"kind":"mysql","source":"server","position":"gtid-1","sent":3,"saved_at":"2024-02-29T00:02:03.000000004Z",`+
		`"sum":"d81e66f5"}`, string(raw))
	keys, err := s.Keys(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"j", "k"}, keys)
	require.NoError(t, s.Delete(t.Context(), "k"))
	assert.ErrorIs(t, s.Delete(t.Context(), "k"), ErrNotFound)
	require.NoError(t, s.Close())
	_, err = OpenExistingSQLite(t.Context(), path+"x")
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

// Whatever is wrong, it is not "nothing saved".
func TestLoadTellsWhatIsWrong(t *testing.T) {
	s := open(t, filepath.Join(testenv.TempDir(t), "c.db"))
	for record, want := range map[string]error{
		"":              ErrBroken,
		"garbage":       ErrBroken,
		`{"version":1}`: ErrBroken,
		`{"version":1,"kind":"mysql","position":""}`:            ErrBroken,
		`{"version":1,"kind":"mysql","position":"p","sent":-1}`: ErrBroken,
		`{"version":1,"kind":"mysql","position":"p"} trailing`:  ErrBroken,
		`{"version":0,"kind":"mysql","position":"p"}`:           ErrIncompatible,
		`{"version":2,"kind":"mysql","position":"p"}`:           ErrBroken,
		`{"version":4,"kind":"mysql","position":"p"}`:           ErrIncompatible,
		`{"version":1,"kind":"postgresql","position":"p"}`:      ErrIncompatible,
	} {
		require.NoError(t, s.Set(t.Context(), "k", []byte(record)))
		_, err := Load(t.Context(), s, "k", "mysql")
		require.ErrorIs(t, err, want, record)
		assert.NotErrorIs(t, err, ErrNotFound)
		assert.ErrorContains(t, err, `key "k"`)
	}
	_, err := Load(t.Context(), s, "never", "mysql")
	require.ErrorIs(t, err, ErrNotFound)
	assert.NotErrorIs(t, err, ErrBroken)
	require.Error(t, Save(t.Context(), s, "k", "mysql", Token{}, time.Now()), "nothing to save")
}

func TestSQLiteCorruptFile(t *testing.T) {
	dir := testenv.TempDir(t)
	whole := filepath.Join(dir, "whole.db")
	require.NoError(t, os.WriteFile(whole, []byte(strings.Repeat("this is no database ", 500)), 0o600))
	_, err := OpenSQLite(t.Context(), whole)
	require.ErrorContains(t, err, "opening checkpoint store "+whole)

	part := filepath.Join(dir, "part.db")
	s, err := OpenSQLite(t.Context(), part)
	require.NoError(t, err)
	require.NoError(t, s.Set(t.Context(), "k", []byte(strings.Repeat("x", 10_000))))
	require.NoError(t, s.Close())
	f, err := os.OpenFile(part, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(make([]byte, 4000), 4096+96) // the table's page
	require.NoError(t, err)
	require.NoError(t, f.Close())
	if s, err = OpenSQLite(t.Context(), part); err == nil {
		_, err = Load(t.Context(), s, "k", "mysql")
		_ = s.Close()
	}
	require.ErrorContains(t, err, "the file is damaged")
	require.ErrorIs(t, err, ErrBroken)
	assert.NotErrorIs(t, err, ErrNotFound)

	other := filepath.Join(dir, "other.db")
	require.NoError(t, os.WriteFile(other, nil, 0o600)) // empty: a database without our table
	s, err = OpenExistingSQLite(t.Context(), other)
	require.NoError(t, err)
	_, err = s.Get(t.Context(), "k")
	require.ErrorContains(t, err, other+" is not a checkpoint store")
	require.NoError(t, s.Close())
}

func TestSQLiteFolderMissing(t *testing.T) {
	dir := filepath.Join(testenv.TempDir(t), "none")
	_, err := OpenSQLite(t.Context(), filepath.Join(dir, "c.db"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	assert.ErrorContains(t, err, "folder "+dir+": no such file or directory")
}

// asNobody runs f without root's power over files: the thread gets another file system identity (setfsuid(2)) and is
// thrown away.
func asNobody(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked
		if os.Geteuid() == 0 {
			_, _, _ = unix.RawSyscall(unix.SYS_SETFSUID, 65534, 0, 0)
		}
		f()
	}()
	<-done
}

func TestSQLiteReadOnly(t *testing.T) {
	dir := testenv.TempDir(t)
	path := filepath.Join(dir, "c.db")
	s, err := OpenSQLite(t.Context(), path)
	require.NoError(t, err)
	require.NoError(t, s.Set(t.Context(), "k", []byte("v")))
	require.NoError(t, s.Close())
	require.NoError(t, os.Chmod(path, 0o444))
	require.NoError(t, os.Chmod(path+".lock", 0o444))
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
	require.NoError(t, os.Chmod(dir, 0o555))
	t.Cleanup(func() { _ = os.Chmod(dir, 0o755) })
	asNobody(func() {
		_, err = OpenSQLite(t.Context(), filepath.Join(dir, "new.db"))
		assert.ErrorContains(t, err, "opening checkpoint store")
		s, err := OpenSQLite(t.Context(), path)
		if err == nil {
			_, err = s.Get(t.Context(), "k")
			_ = s.Close()
		}
		assert.Error(t, err)
		assert.NotErrorIs(t, err, ErrNotFound)
	})
}

func TestSQLiteLocksBetweenHandles(t *testing.T) {
	path := filepath.Join(testenv.TempDir(t), "c.db")
	a, b := open(t, path), open(t, path)
	require.NoError(t, a.Set(t.Context(), "k", []byte("a")))
	for _, err := range []error{
		b.Set(t.Context(), "k", []byte("b")), b.Delete(t.Context(), "k"),
		func() error { _, err := Load(t.Context(), b, "k", "mysql"); return err }(),
	} {
		require.ErrorIs(t, err, ErrLocked)
		assert.NotErrorIs(t, err, ErrBroken)
		assert.ErrorContains(t, err, `key "k" in checkpoint store `+path)
	}
	for _, s := range []*SQLite{a, b} {
		used, err := s.InUse("k")
		require.NoError(t, err)
		assert.True(t, used)
		used, err = s.InUse("free")
		require.NoError(t, err)
		assert.False(t, used)
	}
	v, err := b.Peek(t.Context(), "k")
	require.NoError(t, err)
	assert.Equal(t, "a", string(v))
	require.NoError(t, b.Set(t.Context(), "another", nil))
	require.NoError(t, a.Close())
	require.NoError(t, b.Set(t.Context(), "k", []byte("b")))
}

func TestSQLiteLocksBetweenProcesses(t *testing.T) {
	path := filepath.Join(testenv.TempDir(t), "c.db")
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), holderEnv+"="+path)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "held\n", line)

	s := open(t, path)
	_, err = s.Get(t.Context(), "k")
	require.ErrorIs(t, err, ErrLocked)
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	v, err := s.Get(t.Context(), "k")
	require.NoError(t, err)
	assert.Equal(t, "held", string(v))
}

// The cache resource, through the engine.
func TestCacheResource(t *testing.T) {
	path := filepath.Join(testenv.TempDir(t), "c.db")
	b := service.NewResourceBuilder()
	require.NoError(t, b.AddCacheYAML("label: positions\ndeltaforge_checkpoint:\n  path: "+path))
	res, stop, err := b.Build()
	require.NoError(t, err)
	_, err = os.Stat(path)
	require.ErrorIs(t, err, fs.ErrNotExist, "opened at first use only")

	s := FromCache(res, "positions")
	_, err = Load(t.Context(), s, "k", "mysql")
	require.ErrorIs(t, err, ErrNotFound)
	tok := Token{Commit: Text("p"), Sent: 2}
	require.NoError(t, Save(t.Context(), s, "k", "mysql", tok, time.Now()))
	got, err := Load(t.Context(), s, "k", "mysql")
	require.NoError(t, err)
	assert.Equal(t, tok, got)
	require.NoError(t, res.AccessCache(t.Context(), "positions", func(c service.Cache) {
		assert.ErrorIs(t, c.Add(t.Context(), "k", nil, nil), service.ErrKeyAlreadyExists)
		assert.NoError(t, c.Add(t.Context(), "n", []byte("v"), nil))
		assert.NoError(t, c.Delete(t.Context(), "n"))
		assert.NoError(t, c.Delete(t.Context(), "n"))
		_, err := c.Get(t.Context(), "n")
		assert.ErrorIs(t, err, service.ErrKeyNotFound)
	}))
	direct := open(t, path)
	_, err = direct.Get(t.Context(), "k")
	require.ErrorIs(t, err, ErrLocked)
	require.NoError(t, stop(context.Background()))
	_, err = direct.Get(t.Context(), "k")
	require.NoError(t, err, "the resource has given its locks back")

	_, err = FromCache(res, "missing").Get(t.Context(), "k")
	assert.ErrorContains(t, err, `cache "missing"`)
	assert.NotErrorIs(t, err, ErrNotFound)
}

// marshal returns the saved form of a token.
func marshal(kind string, tok Token, now time.Time) ([]byte, error) {
	r, err := NewRecord(kind, tok, now)
	if err != nil {
		return nil, err
	}
	return r.Marshal()
}

// TestRecordTellsDamage: whatever character of a record becomes another one, it is not taken for a position.
func TestRecordTellsDamage(t *testing.T) {
	good, err := marshal("mysql", Token{Source: "0f3c", Commit: Text("0f3c:1-1077"), Sent: 12}, time.Unix(1e9, 12345))
	require.NoError(t, err)
	_, err = UnmarshalRecord(good)
	require.NoError(t, err)
	accepted := 0
	for i := range good {
		for _, c := range []byte("019ax\"") {
			if good[i] == c {
				continue
			}
			bad := append([]byte(nil), good...)
			bad[i] = c
			switch _, err := UnmarshalRecord(bad); {
			case err == nil:
				accepted++
				t.Errorf("accepted: %s", bad)
			case !errors.Is(err, ErrBroken) && !errors.Is(err, ErrIncompatible):
				t.Errorf("neither broken nor incompatible: %v", err)
			}
		}
	}
	require.Zero(t, accepted)
	flipped := bytes.Replace(good, []byte("1-1077"), []byte("1-1177"), 1)
	_, err = UnmarshalRecord(flipped)
	require.ErrorContains(t, err, "it was damaged, or changed by hand; restore it from a backup")
}

func FuzzUnmarshalRecord(f *testing.F) {
	good, _ := marshal("mysql", Token{Source: "s", Commit: Text("p"), Sent: 1}, time.Unix(1, 0))
	f.Add(good)
	f.Add([]byte(`{"version":9}`))
	f.Add([]byte("\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := UnmarshalRecord(data)
		if err != nil {
			if !errors.Is(err, ErrBroken) && !errors.Is(err, ErrIncompatible) {
				t.Fatalf("neither broken nor incompatible: %v", err)
			}
			return
		}
		again, err := marshal(r.Kind, r.Token(), r.SavedAt)
		if err != nil {
			return // a time that JSON cannot hold
		}
		back, err := UnmarshalRecord(again)
		if err != nil || back.Token() != r.Token() || back.Kind != r.Kind || !back.SavedAt.Equal(r.SavedAt) {
			t.Fatalf("%+v became %+v, %v", r, back, err)
		}
	})
}
