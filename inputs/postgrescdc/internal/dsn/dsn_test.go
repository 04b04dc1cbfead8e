package dsn

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

// TestDSN has DSNs that can be read, and the parts that they have.
func TestDSN(t *testing.T) {
	for dsn, want := range map[string][4]string{ // host, user, password, database
		"postgres://u:p@h:5433/db":                                          {"h", "u", "p", "db"},
		"postgresql://u@h/db":                                               {"h", "u", "", "db"},
		"postgres://u:p%40%2F%3F%23%25%20x@h":                               {"h", "u", "p@/?#% x", "u"},
		"postgres://u:it's;a&b=c@h/db?sslmode=disable":                      {"h", "u", "it's;a&b=c", "db"},
		"postgres://u:a:b@h/db":                                             {"h", "u", "a:b", "db"},
		"postgres://u:p@h1:1,h2:2/db?target_session_attrs=any":              {"h1", "u", "p", "db"},
		"postgres://u:p@[::1]:5432/db":                                      {"::1", "u", "p", "db"},
		"postgres:///db?host=/run/pg&user=u&password=a%40b":                 {"/run/pg", "u", "a@b", "db"},
		"host=h port=5432 user=u password=p;a&b=c dbname=db":                {"h", "u", "p;a&b=c", "db"},
		`host = h user=u password='it\'s a \\b' dbname=db`:                  {"h", "u", `it's a \b`, "db"},
		`  host=h user=u password=it\'s\ a\\b dbname=db connect_timeout=5 `: {"h", "u", `it's a\b`, "db"},
		"host=h user=u password='' dbname=db options='-c work_mem=1MB'":     {"h", "u", "", "db"},
	} {
		c, err := Parse(dsn)
		require.NoError(t, err, dsn)
		require.Equal(t, want, [4]string{c.Host, c.User, c.Password, c.Database}, dsn)
	}
}

// TestBadDSN has DSNs that are not what their authors think. The error tells how to write them, and has nothing of the password.
func TestBadDSN(t *testing.T) {
	const url, pairs = "write @ as %40", "want pairs separated by blanks"
	for dsn, want := range map[string]string{
		"": "got an empty string", "postgres://u:s3c@ret@h/db": url, "postgres://u:s3c/ret@h/db": url, "postgres://u:s3c#ret@h/db": url, "postgres://u:s3c?ret@h/db": url,
		"postgres://u:s3c%ret@h/db": url, "postgres://u:s3c ret@h/db": url, "postgres://u:x@h/db?password=s3c@ret": url, "postgres://u:s3cret@h;x/db": url, "mysql://u:s3cret@h/db": pairs,
		"host=h;password=s3cret": pairs, "host=h password=s3c ret user=u": pairs, "host=h password='s3c'ret' user=u": pairs, "host=h password='s3cret": pairs,
		"user=u&password=s3cret host=h": pairs, "host=h user=u port=1;password=s3cret": pairs, "host=h password=s3c ret=x": pairs, "host=h dbname=x&password=s3cret": pairs,
		"Server=h;Password=s3cret": pairs, "password=x host=s3c@ret": pairs, "s3cret": pairs,
		"postgres://u:s3cret@h:port/db": "invalid port", "host=h password=s3cret port=x": "invalid port", "postgres://u:s3cret@h/db?sslmode=s3cret": "sslmode is invalid",
	} {
		_, err := Parse(dsn)
		require.ErrorContains(t, err, "dsn: want a postgres:// URL or keyword=value pairs", dsn)
		assert.ErrorContains(t, err, want, dsn)
		for _, part := range []string{"s3c", "ret"} {
			assert.NotContains(t, err.Error(), part, dsn)
		}
	}
}

// TestDSNOfAnyPassword puts passwords of odd characters into DSNs as they are: each is taken as it is, or refused without a word of it.
func TestDSNOfAnyPassword(t *testing.T) {
	const odd = `abAB09@:/?#%&=;'"\ .,+-_~!$()*[]{}<>|` + "\t"
	r := rand.New(rand.NewPCG(testenv.Seed(t), 1)) //nolint:gosec // a test
	taken := 0
	for range 5000 {
		var b strings.Builder
		for range 6 + r.IntN(10) {
			b.WriteByte(odd[r.IntN(len(odd))])
		}
		password := b.String()
		for _, dsn := range []string{
			"postgres://u:" + password + "@h/db?sslmode=disable", "host=h user=u password=" + password + " dbname=db", "host=h user=u password='" + password + "' dbname=db",
		} {
			c, err := Parse(dsn)
			if err != nil {
				for i := range len(password) - 3 {
					if part := password[i : i+4]; !strings.Contains("dsn: want a postgres:// URL or keyword=value pairs: password: "+errURL.Error()+errPairs.Error(), part) {
						require.NotContains(t, err.Error(), part, dsn)
					}
				}
				continue
			}
			taken++
			require.Equal(t, []string{"h", "u"}, []string{c.Host, c.User}, dsn)
			require.Empty(t, c.RuntimeParams["options"])
			unescaped := strings.NewReplacer(`\`, "").Replace(password)
			require.Contains(t, []string{password, unescaped, strings.TrimRight(password, " \t"), c.Password}, c.Password)
		}
	}
	require.Greater(t, taken, 100)
}
