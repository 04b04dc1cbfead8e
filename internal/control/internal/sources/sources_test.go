package sources

import (
	"testing"

	"github.com/stretchr/testify/assert"

	contract "github.com/deltaforge/deltaforge/internal/plane"
)

// What a closed source has left is asked for until the pipeline is deleted or a source attaches again.
func TestClosedSourcesKeepTheirWord(t *testing.T) {
	s := New()
	withdrawn := 0
	word := contract.Report{Position: "tx1", LagSeconds: 1, LagBytes: -1, State: contract.Running}
	source := contract.Source{Report: func() contract.Report { return word }, Withdraw: func() { withdrawn++ }}
	_, detach := s.Attach("p", "a", source)
	detach()
	assert.Equal(t, []Report{{"a", word}}, s.Reports("p"))
	_, detach = s.Attach("p", "a", source)
	assert.Zero(t, withdrawn, "its successor has the series")
	detach()
	_, detach = s.Attach("p", "b", source)
	assert.Equal(t, 1, withdrawn)
	assert.Len(t, s.Reports("p"), 1)
	detach()
	s.Forget("p")
	assert.Equal(t, 2, withdrawn)
	assert.Empty(t, s.Reports("p"))
}
