// Package dsn reads the DSN of a connection. No error of it quotes a password.
package dsn

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A DSN with a character that its form gives a meaning is read as something else than its author thinks, and a part of the password
// becomes a host or a setting, which errors name. So a DSN that can be read in two ways is refused, and no error quotes it.

// dsnField is the name of the field that has the DSN.
const dsnField = "dsn"

// Parse parses a DSN and adds the settings that the text forms of values depend on.
func Parse(dsn string) (*pgx.ConnConfig, error) {
	if dsn == "" {
		return nil, fmt.Errorf("%s: want a postgres:// URL or keyword=value pairs, got an empty string", dsnField)
	}
	secrets, err := checkDSN(dsn)
	if err != nil {
		return nil, fmt.Errorf("%s: want a postgres:// URL or keyword=value pairs: %w", dsnField, err)
	}
	c, err := pgx.ParseConfig(dsn)
	if err != nil {
		var cause *pgconn.ParseConfigError
		if errors.As(err, &cause) && errors.Unwrap(cause) != nil {
			err = errors.Unwrap(cause)
		}
		text := strings.ReplaceAll(err.Error(), dsn, "…")
		for _, secret := range secrets {
			text = strings.ReplaceAll(text, secret, "…")
		}
		return nil, fmt.Errorf("%s: want a postgres:// URL or keyword=value pairs: %s", dsnField, text)
	}
	if c.Database == "" {
		c.Database = c.User
	}
	maps.Copy(c.RuntimeParams, map[string]string{
		"TimeZone": "UTC", "DateStyle": "ISO", "IntervalStyle": "iso_8601", "extra_float_digits": "3", "bytea_output": "hex",
		"client_encoding": "UTF8",
	})
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "deltaforge"
	}
	return c, nil
}

// checkDSN refuses a DSN that can be read in two ways, and returns the passwords in it, as they stand there and as they are.
func checkDSN(dsn string) (secrets []string, err error) {
	if strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://") {
		return checkURL(dsn)
	}
	return checkPairs(dsn)
}

// errURL tells how to write what a URL gives a meaning.
var errURL = errors.New("it is no such URL: in user and password, write @ as %40, / as %2F, ? as %3F, # as %23, % as %25 and a blank as %20")

func checkURL(dsn string) (secrets []string, err error) {
	// There is one @ at most, between password and host, and nothing of what divides the parts is inside of one.
	parts := regexp.MustCompile(`^postgres(?:ql)?://(?:([^:@/?# ]*)(?::([^@/?# ]*))?@)?([\w.:,*%\[\]-]*)(?:/[^@?#;&= ]*)?(?:\?([^@?# ]*))?$`).FindStringSubmatch(dsn)
	if parts == nil {
		return nil, errURL
	}
	password, err := url.PathUnescape(parts[2])
	if err != nil {
		return nil, errURL
	}
	query, err := url.ParseQuery(parts[4])
	if err != nil {
		return nil, errURL
	}
	for _, secret := range append([]string{parts[2], password}, slices.Concat(query["password"], query["sslpassword"])...) {
		if secret != "" {
			secrets = append(secrets, secret)
		}
	}
	return secrets, nil
}

// errPairs tells how to write what pairs give a meaning.
var errPairs = errors.New(`want pairs separated by blanks: a value with blanks or quotes is written 'in quotes', a quote in it \' and a backslash \\`)

// keywords are those of pairs. In place of what is missing, options takes every setting; so a part of a password that looks like a
// pair is not taken for one.
func keywords() []string {
	return []string{
		"host", "hostaddr", "port", "user", "dbname", "database", "password", "passfile", "service", "servicefile", "connect_timeout", "options",
		"application_name", "sslmode", "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslsni", "sslnegotiation", "sslcertmode",
		"ssl_min_protocol_version", "ssl_max_protocol_version", "min_protocol_version", "max_protocol_version", "channel_binding", "require_auth",
		"target_session_attrs", "load_balance_hosts", "krbsrvname", "krbspn", "keepalives", "keepalives_idle", "keepalives_interval",
		"keepalives_count", "tcp_user_timeout", "client_encoding", "search_path", "statement_timeout", "lock_timeout", "timezone", "role",
	}
}

func checkPairs(dsn string) (secrets []string, err error) {
	for rest := strings.TrimSpace(dsn); rest != ""; rest = strings.TrimSpace(rest) {
		name, after, ok := strings.Cut(rest, "=")
		name = strings.TrimSpace(name)
		if !ok || !slices.Contains(keywords(), name) {
			return nil, errPairs
		}
		var raw, value string
		if raw, value, rest, err = pairValue(strings.TrimLeft(after, " \t\r\n")); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		switch name {
		case "password", "sslpassword":
			secrets = append(secrets, raw, value)
		case "host", "hostaddr", "port", "user", "dbname", "database", "sslmode":
			if strings.ContainsAny(value, `;&='"@ `) && !strings.HasPrefix(value, "@") {
				return nil, fmt.Errorf("%s: %w", name, errPairs)
			}
		}
	}
	return slices.DeleteFunc(secrets, func(s string) bool { return s == "" }), nil
}

// pairValue reads a value: as it stands there, as it is, and what comes after it.
func pairValue(s string) (raw, value, rest string, err error) {
	quoted := strings.HasPrefix(s, "'")
	i := 0
	if quoted {
		i = 1
	}
	var b strings.Builder
	for ; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case quoted && c == '\'':
			if i++; i < len(s) && !strings.ContainsRune(" \t\r\n", rune(s[i])) {
				return "", "", "", errPairs
			}
			return s[:i], b.String(), s[i:], nil
		case !quoted && strings.ContainsRune(" \t\r\n", rune(c)):
			return s[:i], b.String(), s[i:], nil
		default:
			b.WriteByte(c)
		}
	}
	if quoted {
		return "", "", "", errPairs
	}
	return s, b.String(), "", nil
}
