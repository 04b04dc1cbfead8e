package sink

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

// TestAuthoritiesAreReadForEachConnection: one that was replaced on disk is used by the next connection.
func TestAuthoritiesAreReadForEachConnection(t *testing.T) {
	server := httptest.NewTLSServer(nil) // any TLS server will do
	defer server.Close()
	right := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	other := testenv.Authority(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, other, 0o600))

	conf, err := service.NewConfigSpec().Fields(service.NewTLSToggledField("tls")).ParseYAML("tls: { enabled: true, root_cas_file: "+ca+" }", nil)
	require.NoError(t, err)
	dial, err := TLSDial(conf, time.Minute, "tls")
	require.NoError(t, err)
	addr := server.Listener.Addr().String()
	_, err = dial(t.Context(), "tcp", addr)
	var unknown x509.UnknownAuthorityError
	require.ErrorAs(t, err, &unknown)

	require.NoError(t, os.WriteFile(ca, right, 0o600))
	c, err := dial(t.Context(), "tcp", addr)
	require.NoError(t, err)
	assert.True(t, c.(*tls.Conn).ConnectionState().HandshakeComplete)
	require.NoError(t, c.Close())

	require.NoError(t, os.Remove(ca))
	_, err = dial(t.Context(), "tcp", addr)
	require.ErrorContains(t, err, "reading the files of tls: ")
	require.ErrorIs(t, err, os.ErrNotExist)

	conf, err = service.NewConfigSpec().Fields(service.NewTLSToggledField("tls")).ParseYAML("tls: {}", nil)
	require.NoError(t, err)
	dial, err = TLSDial(conf, time.Minute, "tls")
	require.NoError(t, err)
	assert.Nil(t, dial)
}

func TestReason(t *testing.T) {
	_, refused := net.DialTimeout("tcp", "127.0.0.1:1", time.Minute)
	for want, err := range map[string]error{
		"connection refused":               refused,
		"the server closed the connection": io.ErrUnexpectedEOF,
		"the connection is closed":         net.ErrClosed,
		"no answer in time":                os.ErrDeadlineExceeded,
		"lookup h: no such host":           &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "h"}},
		"a sentence":                       Errorf(Other, "a sentence.").Err,
	} {
		assert.Equal(t, want, Reason(err))
		e := Explain(Connect, "connecting to h", err, "do this")
		assert.Equal(t, "connecting to h: "+want+"; do this (kind=connect)", e.Error())
		require.ErrorIs(t, e, err)
	}
}
