package door

import (
	"crypto/tls"
	"encoding/pem"
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
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	renewed := 0
	issue := func() (der []byte) {
		t.Helper()
		cert, key := testenv.Certificate(t)
		renewed++
		require.NoError(t, os.WriteFile(certFile, append(cert, strings.Repeat("\n", renewed)...), 0o600)) // of another size each time
		require.NoError(t, os.WriteFile(keyFile, key, 0o600))
		block, _ := pem.Decode(cert)
		return block.Bytes
	}
	_, err := CertificateFiles(certFile, keyFile)
	assert.ErrorContains(t, err, "cert.pem")
	first := issue()
	c := &certificate{certFile: certFile, keyFile: keyFile}
	require.NoError(t, c.load())
	used := func() []byte {
		t.Helper()
		c.looked = time.Time{}
		pair, err := c.get(&tls.ClientHelloInfo{})
		require.NoError(t, err)
		return pair.Certificate[0]
	}
	assert.Equal(t, first, used())
	second := issue()
	assert.Equal(t, second, used())
	require.NoError(t, os.WriteFile(certFile, []byte("half of a"), 0o600))
	assert.Equal(t, second, used())
}
