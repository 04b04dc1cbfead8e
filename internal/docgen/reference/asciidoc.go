package reference

import (
	"regexp"
	"strings"
)

// What the descriptions hold of AsciiDoc, which is what the engine's own are written in: headings and links.
var (
	heading   = regexp.MustCompile(`(?m)^={2,5} (.+)$`)
	crossLink = regexp.MustCompile(`xref:[^\s\[\]]*\[([^\]]+)\]`)
	webLink   = regexp.MustCompile(`(?:link:)?\b(https?://[^\s\[\]]+)\[([^\]]+?)\^?\]`)
)

// markdown turns a description into Markdown and trims it. A reference to another page of the engine's documentation becomes its text,
// since that page is not among ours.
func markdown(text string) string {
	text = heading.ReplaceAllString(text, "### $1")
	text = crossLink.ReplaceAllString(text, "$1")
	text = webLink.ReplaceAllString(text, "[$2]($1)")
	return strings.TrimSpace(text)
}
