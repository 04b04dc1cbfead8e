package checkpoint

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestTokenString(t *testing.T) {
	for want, tok := range map[string]Token{
		"start": {}, "start+1": {Sent: 1}, "p": {Commit: Text("p")}, "p+1": {Commit: Text("p"), Sent: 1}, "p+12": {Source: "s", Commit: Text("p"), Sent: 12},
	} {
		assert.Equal(t, want, tok.String())
		assert.Equal(t, "checkpoint.Token("+want+")", fmt.Sprintf("%#v", tok))
		assert.Equal(t, want == "start", tok.IsZero())
	}
}
