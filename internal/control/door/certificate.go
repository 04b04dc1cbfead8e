package door

import (
	"crypto/tls"
	"fmt"
	"sync"
	"time"

	"github.com/deltaforge/deltaforge/internal/control/document"
)

// certificatePeriod is how often the files of a certificate are looked at.
const certificatePeriod = 10 * time.Second

// CertificateFiles returns what a listener speaks TLS with. The files are read again when they change, so that a certificate
// that is renewed on disk is used without a restart; one that does not load leaves the old one in use.
func CertificateFiles(certFile, keyFile string) (*tls.Config, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile}
	if err := c.load(); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}, nil
}

type certificate struct {
	certFile, keyFile string

	mu     sync.Mutex
	pair   *tls.Certificate // guarded by mu
	seen   string           // fingerprint of the files that pair is from; guarded by mu
	looked time.Time        // guarded by mu
}

func (c *certificate) fingerprint() string {
	return document.Fingerprint(c.certFile) + document.Fingerprint(c.keyFile)
}

// load reads the files. The caller holds mu, or is the only one.
func (c *certificate) load() error {
	seen := c.fingerprint()
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	c.looked = time.Now()
	if err != nil {
		return fmt.Errorf("certificate %s: %w", c.certFile, err)
	}
	c.pair, c.seen = &pair, seen
	return nil
}

// get is called by the listener for each handshake.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) >= certificatePeriod {
		c.looked = time.Now()
		if c.fingerprint() != c.seen {
			_ = c.load() // the old one stays: a certificate is often written in two steps
		}
	}
	return c.pair, nil
}
