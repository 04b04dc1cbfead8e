package servers_test

import (
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"os"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// trusting is a configuration that trusts the server's own certificate and nothing else.
func trusting(t *testing.T, s *servers.Server) *tls.Config {
	t.Helper()
	text, err := os.ReadFile(s.TLSCA())
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(text))
	return &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}
}

func TestPostgresTLS(t *testing.T) {
	s := testenv.StartPostgres(t, servers.Options{TLS: true, NoSync: true})
	dsn := strings.Replace(s.DSN("postgres"), "sslmode=disable", "sslmode=verify-full&sslrootcert="+s.TLSCA(), 1)
	require.True(t, postgresEncrypted(t, dsn))
	require.False(t, postgresEncrypted(t, s.DSN("postgres")))
}

func TestMySQLTLS(t *testing.T) {
	s := testenv.StartMySQL(t, servers.Options{NoSync: true})
	config, err := mysql.ParseDSN(s.DSN(""))
	require.NoError(t, err)
	config.TLS = trusting(t, s.Server)
	// MySQL's own certificates name no host: the chain alone is checked.
	config.TLS.InsecureSkipVerify = true
	config.TLS.VerifyConnection = func(state tls.ConnectionState) error {
		_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: config.TLS.RootCAs})
		return err
	}
	connector, err := mysql.NewConnector(config)
	require.NoError(t, err)
	db := sql.OpenDB(connector)
	defer db.Close()
	var name, cipher string
	require.NoError(t, db.QueryRowContext(t.Context(), "SHOW STATUS LIKE 'Ssl_cipher'").Scan(&name, &cipher))
	require.NotEmpty(t, cipher)
}

func TestMariaDBTLS(t *testing.T) {
	s := testenv.StartMariaDB(t, servers.Options{TLS: true, NoSync: true})
	config, err := mysql.ParseDSN(s.DSN(""))
	require.NoError(t, err)
	config.TLS = trusting(t, s.Server)
	connector, err := mysql.NewConnector(config)
	require.NoError(t, err)
	db := sql.OpenDB(connector)
	defer db.Close()
	var name, cipher string
	require.NoError(t, db.QueryRowContext(t.Context(), "SHOW STATUS LIKE 'Ssl_cipher'").Scan(&name, &cipher))
	require.NotEmpty(t, cipher)
}

func TestRedisTLSAndPassword(t *testing.T) {
	s := testenv.StartRedis(t, servers.Options{TLS: true, Password: "secret"})
	require.NoError(t, s.Client(t).Ping(t.Context()).Err())
	open := redis.NewClient(&redis.Options{Addr: s.Addr()})
	defer open.Close()
	require.ErrorContains(t, open.Ping(t.Context()).Err(), "NOAUTH")
	secure := redis.NewClient(&redis.Options{Addr: s.TLSAddr(), Password: "secret", TLSConfig: trusting(t, s.Server)})
	defer secure.Close()
	require.NoError(t, secure.Ping(t.Context()).Err())
}

func TestKafkaSecure(t *testing.T) {
	s := testenv.StartKafka(t, servers.Options{TLS: true, SASL: true})
	ping := func(mechanism sasl.Mechanism) error {
		return s.Client(t, kgo.SeedBrokers(s.SecureAddr()), kgo.DialTLSConfig(trusting(t, s.Server)), kgo.SASL(mechanism)).Ping(t.Context())
	}
	for name, mechanism := range map[string]sasl.Mechanism{
		"PLAIN":         plain.Auth{User: servers.User, Pass: servers.Password}.AsMechanism(),
		"SCRAM-SHA-256": scram.Auth{User: servers.User, Pass: servers.Password}.AsSha256Mechanism(),
		"SCRAM-SHA-512": scram.Auth{User: servers.User, Pass: servers.Password}.AsSha512Mechanism(),
	} {
		require.NoError(t, ping(mechanism), name)
	}
	require.ErrorContains(t, ping(plain.Auth{User: servers.User, Pass: "wrong"}.AsMechanism()), "SASL_AUTHENTICATION_FAILED")
}
