package redact

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"postgres://u:p%40ss@h/db":                                "postgres://u:#@h/db",
		"postgres://u:p@ss/w:rd@h/db":                             "postgres://u:#@h/db",
		"redis://:p@h:6379":                                       "redis://:#@h:6379",
		"root:p@ss@tcp(127.0.0.1:3306)/db":                        "root:#@tcp(127.0.0.1:3306)/db",
		"host=h user=u password=abc sslmode=off":                  "host=h user=u password=# sslmode=off",
		"host=h password='a b' x=1":                               "host=h password=# x=1",
		`host=h password='a\'b c' x=1`:                            "host=h password=# x=1",
		"host=h password='a''b c' x=1":                            "host=h password=# x=1",
		"host=h password='never closed":                           "host=h password=#",
		"host=h password=a;b&c x=1":                               "host=h password=# x=1",
		"field password: want a string":                           "field password: want a string",
		"passfile=x password = ab":                                "passfile=x password = #",
		"sslpassword=abc":                                         "sslpassword=#",
		"https://h/?api_key=abc":                                  "https://h/?api_key=#",
		`{"password":"a\"b","x":1}`:                               `{"password":#,"x":1}`,
		"Authorization: Bearer abc.def":                           "Authorization: Bearer #",
		"Authorization: Basic dTpw":                               "Authorization: Basic #",
		"Cookie: session=abc; theme=dark":                         "Cookie: #",
		"dial tcp 127.0.0.1:3306: refused":                        "dial tcp 127.0.0.1:3306: refused",
		"http://host:8080/path":                                   "http://host:8080/path",
		"at 10:42:07 mail a@example.com was sent":                 "at 10:42:07 mail a@example.com was sent",
		"want a bearer of news":                                   "want a bearer of news",
		"-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY": "-----BEGIN PRIVATE KEY-----#-----END PRIVATE KEY",
	} {
		assert.Equal(t, strings.ReplaceAll(want, "#", Mask), Text(in))
	}
}

func TestAddedValues(t *testing.T) {
	Add("48151623", "s3cr", "p@ss/word!", "root", "abc", "")
	for in, want := range map[string]string{
		"got number 48151623":            "got number #",
		"x48151623y":                     "x#y",
		"the s3cr is out, s3cret is not": "the # is out, s3cret is not",
		"GET /?q=p%40ss%2Fword%21":       "GET /?q=#",
		"p@ss/word! in clear":            "# in clear",
		"root.input abc":                 "root.input abc",
	} {
		assert.Equal(t, strings.ReplaceAll(want, "#", Mask), Text(in), in)
	}
}

func TestName(t *testing.T) {
	for name, want := range map[string]bool{
		"password": true, "PGPASSWORD": true, "DB_PASS": true, "db_pw": true, "sasl_secret": true, "api-key": true, "X-Api-Key": true, "Cookie": true,
		"AccountKey": true, "Authorization": true, "dsn": true, "bypass": false, "compass_rose": false, "key": false, "table": false, "passage": false,
	} {
		assert.Equal(t, want, Name(name), name)
	}
}

func TestPasswords(t *testing.T) {
	for text, want := range map[string][]string{
		"postgres://u:p%40ss@h/db":         {"p%40ss", "p@ss"},
		"root:p@ss@tcp(127.0.0.1:3306)/db": {"p@ss"},
		`host=h password='a\'b' user=u`:    {"a'b"},
		"kafka:9092":                       nil,
	} {
		assert.Equal(t, want, Passwords(text), text)
	}
}
