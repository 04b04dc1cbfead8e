package sink

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
)

// Explain gives an error of a client library a kind and a text for an operator: what was touched, why it failed, and the way out if there
// is one. The returned error wraps err.
func Explain(kind Kind, what string, err error, hint string) *Error {
	text := what + ": " + Reason(err)
	if hint != "" {
		text += "; " + hint
	}
	return &Error{Kind: kind, Err: &explained{text: text, err: err}}
}

// explained is an error with another text.
type explained struct {
	text string
	err  error
}

func (e *explained) Error() string { return e.text }
func (e *explained) Unwrap() error { return e.err }

// Reason returns why something failed. It leaves out what the caller has said already (the addresses of both ends) and the names of system
// calls.
func Reason(err error) string {
	var (
		number  syscall.Errno
		netErr  net.Error
		nameErr *net.DNSError
	)
	switch {
	case errors.As(err, &nameErr):
		return nameErr.Error()
	case errors.As(err, &number):
		return number.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return "no answer in time"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the server closed the connection"
	case errors.Is(err, net.ErrClosed):
		return "the connection is closed"
	}
	return strings.TrimSuffix(err.Error(), ".")
}
