package door

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

// A certificate that is renewed on disk is used without a restart; one that is broken leaves the old one in use.
func TestCertificateIsReadAgain(t *testing.T) {
	dir := testenv.TempDir(t, "cert.pem", "key.pem")
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write := func(path, text string) {
		t.Helper()
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	issue := func(serial int64) {
		t.Helper()
		priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &priv.PublicKey, priv)
		require.NoError(t, err)
		text, err := x509.MarshalECPrivateKey(priv)
		require.NoError(t, err)
		write(cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))+strings.Repeat("\n", int(serial)))
		write(key, string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: text})))
	}
	_, err := CertificateFiles(cert, key)
	assert.ErrorContains(t, err, "cert.pem")
	issue(1)
	c := &certificate{certFile: cert, keyFile: key}
	require.NoError(t, c.load())
	serial := func() int64 {
		t.Helper()
		c.looked = time.Time{}
		pair, err := c.get(&tls.ClientHelloInfo{})
		require.NoError(t, err)
		leaf, err := x509.ParseCertificate(pair.Certificate[0])
		require.NoError(t, err)
		return leaf.SerialNumber.Int64()
	}
	assert.EqualValues(t, 1, serial())
	issue(2)
	assert.EqualValues(t, 2, serial())
	write(cert, "half of a")
	assert.EqualValues(t, 2, serial())
}
