package fault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestKindOf(t *testing.T) {
	plain := errors.New("plain")
	refused := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", errors.New("refused"))}
	for _, c := range []struct {
		err  error
		want Kind
	}{
		{plain, KindOther},
		{io.EOF, KindOther},
		{fmt.Errorf("reading: %w", WithKind(KindAuth, plain)), KindAuth},
		{WithKind(KindSchema, WithKind(KindAuth, plain)), KindSchema},
		{OrKind(KindDecode, plain), KindDecode},
		{OrKind(KindDecode, fmt.Errorf("row: %w", WithKind(KindSchema, plain))), KindSchema},
		{WithKind(KindProtocol, fmt.Errorf("at x: %w", ErrPositionLost)), KindPositionLost},
		{refused, KindConnect},
		{fmt.Errorf("x: %w", context.DeadlineExceeded), KindTimeout},
		{&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, KindTimeout},
		{errors.Join(plain, WithKind(KindPermission, plain)), KindPermission},
	} {
		assert.Equal(t, c.want, KindOf(c.err), "%v", c.err)
	}
	assert.NoError(t, WithKind(KindAuth, nil))
	assert.ErrorIs(t, WithKind(KindAuth, plain), plain)
	assert.EqualError(t, WithKind(KindAuth, plain), "plain")
}
