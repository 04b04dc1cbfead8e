package secrets

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const planted = `pw&1/2+3="ß'`

func TestPlantedPasswordIsFound(t *testing.T) {
	inJSON, err := json.Marshal(map[string]string{"dsn": "u:" + planted + "@tcp(h)/"})
	require.NoError(t, err)
	for name, text := range map[string]string{
		"as it is":          "dialing u:" + planted + "@tcp(h)/",
		"in JSON":           string(inJSON),
		"escaped for a URL": "/login?password=" + url.QueryEscape(planted) + "&x=1",
		"in hexadecimal":    "x'" + hex.EncodeToString([]byte(planted)) + "'",
	} {
		requireOnly(t, text, name)
	}
	requireOnly(t, "postgres://"+url.UserPassword("me", planted).String()+"@h/db", "escaped for a URL")
	requireOnly(t, "a/"+url.PathEscape(planted), "escaped for a URL")
	// A header of basic authentication, whatever the length of the user's name.
	for _, user := range []string{"", "a", "ab", "abc", "abcd"} {
		for _, after := range []string{"", "x", "xy", "xyz"} {
			for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
				requireOnly(t, "Basic "+enc.EncodeToString([]byte(user+":"+planted+after)), "in base64")
			}
		}
	}
	requireNone(t, "pw&1/2+3=")
	requireNone(t, base64.StdEncoding.EncodeToString([]byte("pw&1/2+3=\"ß, which is another one")))
}

func hunt(t *testing.T) *Hunt {
	t.Helper()
	h := &Hunt{}
	require.NoError(t, h.Add("the planted one", planted))
	require.Equal(t, 1, h.Len())
	return h
}

func requireOnly(t *testing.T, text, form string) {
	t.Helper()
	require.Equal(t, []string{"the planted one, " + form}, hunt(t).In([]byte(text)), text)
}

func requireNone(t *testing.T, text string) {
	t.Helper()
	require.Empty(t, hunt(t).In([]byte(text)), text)
}

func TestSearch(t *testing.T) {
	dir, h := t.TempDir(), hunt(t)
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	write("clean", "pw")
	found, files, err := h.Search(dir)
	require.NoError(t, err)
	require.Empty(t, found)
	require.Equal(t, 1, files)

	deep := write("a/b.db", "\x00\x01"+planted)
	write(strings.ReplaceAll(url.QueryEscape(planted), "/", "_"), "")
	found, files, err = h.Search(dir)
	require.NoError(t, err)
	require.Equal(t, 3, files)
	assert.ElementsMatch(t, []string{deep + ": the planted one, as it is", "a file's name: the planted one, escaped for a URL"}, found)
	for _, f := range found {
		assert.NotContains(t, f, planted)
	}

	_, _, err = h.Search(filepath.Join(dir, "nothing"))
	require.Error(t, err)
	require.Error(t, h.Add("a short one", "secret"))
}
