package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseDeb822(t *testing.T) {
	const security = "Types: deb\nURIs: http://example.org/debian-security\nSuites: bookworm-security\nComponents: main\nSigned-By: /k/s.gpg\n"
	for name, test := range map[string]struct {
		content string
		want    aptSource
		ok      bool
	}{
		"second stanza": {
			content: security + "\nTypes: deb deb-src\n# a remark\nURIs: http://example.org/debian\nSuites: bookworm bookworm-updates\nComponents: main contrib\nSigned-By: /k/d.gpg\n",
			want:    aptSource{uri: "http://example.org/debian", signedBy: "/k/d.gpg"}, ok: true,
		},
		"embedded key": {
			content: "Types: deb\nURIs: http://example.org/debian\nSuites: bookworm\nComponents: main\nSigned-By:\n -----BEGIN\n .\n abc\n",
			want:    aptSource{uri: "http://example.org/debian", signedBy: "\n -----BEGIN\n .\n abc"}, ok: true,
		},
		"security only": {content: security},
		"sources only":  {content: "Types: deb-src\nURIs: http://example.org/debian\nSuites: bookworm\nComponents: main\n"},
		"disabled":      {content: "Enabled: no\nTypes: deb\nURIs: http://example.org/debian\nSuites: bookworm\nComponents: main\n"},
		"empty":         {},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := parseDeb822(test.content, "bookworm")
			require.Equal(t, test.ok, ok)
			require.Equal(t, test.want, got)
		})
	}
}

func TestParseList(t *testing.T) {
	for name, test := range map[string]struct {
		content string
		want    aptSource
		ok      bool
	}{
		"plain": {
			content: "# deb http://example.org/old bookworm main\ndeb http://example.org/debian bookworm main\n",
			want:    aptSource{uri: "http://example.org/debian"}, ok: true,
		},
		"options": {
			content: "deb [ arch=amd64 signed-by=/k/d.gpg ] http://example.org/debian bookworm contrib main\n",
			want:    aptSource{uri: "http://example.org/debian", signedBy: "/k/d.gpg"}, ok: true,
		},
		"other suite": {content: "deb http://example.org/debian bookworm-updates main\n"},
		"no main":     {content: "deb http://example.org/debian bookworm contrib\n"},
		"cut short":   {content: "deb [arch=amd64\ndeb http://example.org/debian\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := parseList(test.content, "bookworm")
			require.Equal(t, test.ok, ok)
			require.Equal(t, test.want, got)
		})
	}
}

func TestForSuite(t *testing.T) {
	source := aptSource{uri: "http://example.org/debian", signedBy: "/k/d.gpg"}
	got, ok := parseDeb822(source.forSuite("sid"), "sid")
	require.True(t, ok)
	require.Equal(t, source, got)
	require.NotContains(t, aptSource{uri: "http://example.org/debian"}.forSuite("sid"), "Signed-By")
}

func TestStage(t *testing.T) {
	final := filepath.Join(t.TempDir(), "server")
	write := func(name string, then error) func(string) error {
		return func(dir string) error {
			return errors.Join(os.WriteFile(filepath.Join(dir, name), nil, 0o644), then)
		}
	}
	names := func() (all []string) {
		entries, err := os.ReadDir(final)
		require.NoError(t, err)
		for _, entry := range entries {
			all = append(all, entry.Name())
		}
		return all
	}
	// What an interrupted run has left does not get into the result.
	require.NoError(t, os.Mkdir(final+".partial", 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(final+".partial", "half"), nil, 0o644))
	require.NoError(t, stage(final, write("first", nil)))
	require.Equal(t, []string{"first"}, names())
	// A failure leaves what was there.
	require.ErrorIs(t, stage(final, write("second", os.ErrDeadlineExceeded)), os.ErrDeadlineExceeded)
	require.Equal(t, []string{"first"}, names())
	require.NoDirExists(t, final+".partial")
	require.NoError(t, stage(final, write("third", nil)))
	require.Equal(t, []string{"third"}, names())
}
