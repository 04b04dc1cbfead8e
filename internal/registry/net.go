package registry

import (
	"errors"
	"io"
	"net"
	"net/url"
)

// isNet reports an error of the network: the registry was not reached, or did not answer in time.
func isNet(err error) bool {
	var n net.Error
	var u *url.Error
	return errors.As(err, &n) || errors.As(err, &u) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}
