package testenv

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Certificate returns a new certificate that is its own authority, and its key, as PEM. It is for the hosts, which are names or IP addresses.
func Certificate(t testing.TB, hosts ...string) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: serial, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// Authority returns the certificate of a new authority, as PEM.
func Authority(t testing.TB) []byte {
	t.Helper()
	certificate, _ := Certificate(t)
	return certificate
}

// AuthoritiesAreReadAgain proves that authorities that were replaced on disk are used by the next connection of a component. Open reads the
// component's configuration, in which tls is what it is given, and returns what reads the files for a connection.
func AuthoritiesAreReadAgain(t *testing.T, open func(tlsYAML string) (read func() (*tls.Config, error))) {
	t.Helper()
	file := filepath.Join(TempDir(t, "ca.pem"), "ca.pem")
	require.NoError(t, os.WriteFile(file, Authority(t), 0o600))
	read := open("tls: {enabled: true, root_cas_file: " + file + "}")
	before, err := read()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, Authority(t), 0o600))
	after, err := read()
	require.NoError(t, err)
	assert.False(t, before.RootCAs.Equal(after.RootCAs))
	require.NoError(t, os.Remove(file))
	_, err = read()
	assert.ErrorContains(t, err, "ca.pem")
}
