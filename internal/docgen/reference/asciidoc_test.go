package reference

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMarkdown(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"prose", "\nA row; `a == b`, and [a link](x.md).\n", "A row; `a == b`, and [a link](x.md)."},
		{"headings", "One.\n\n== Order\n\nTwo.\n\n=== Ties\n\nThree.", "One.\n\n### Order\n\nTwo.\n\n### Ties\n\nThree."},
		{"xref", "A xref:guides:bloblang/about.adoc[Bloblang query] or a xref:p/split.adoc#x[`split` processor].", "A Bloblang query or a `split` processor."},
		{"link", "See link:https://example.com/a[the manual], https://example.com/b?c=d[RFC^] or https://example.com/.", "See [the manual](https://example.com/a), [RFC](https://example.com/b?c=d) or https://example.com/."},
	} {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.want, markdown(c.text)) })
	}
}

// What GitHub would show as it is written.
func TestPagesHoldNoAsciiDoc(t *testing.T) {
	asciiDoc := regexp.MustCompile(`(?m)^=+ .*|xref:.*|link:.*|https?://\S+\[.*|^\[\w+\]$|^={4}$|^(?:TIP|NOTE|WARNING|CAUTION): .*`)
	pages, err := Pages()
	require.NoError(t, err)
	require.NotEmpty(t, pages)
	for name, text := range pages {
		assert.Empty(t, asciiDoc.FindAllString(text, -1), name)
	}
}
