package shape

import (
	"fmt"
	"strings"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
)

// ParseLabels reads the labels out of a type such as enum('a','it”s'). The server escapes a quote by doubling it, and
// backslashes and control characters with a backslash (MySQL source, append_unescaped).
func ParseLabels(columnType string) ([][]byte, error) {
	_, s, ok := strings.Cut(columnType, "(")
	if !ok || !strings.HasSuffix(s, ")") {
		return nil, fmt.Errorf("type %q has no labels", columnType)
	}
	s = strings.TrimSuffix(s, ")")
	var labels [][]byte
	for {
		if !strings.HasPrefix(s, "'") {
			return nil, fmt.Errorf("type %q: a label without quote", columnType)
		}
		label := []byte{}
		i := 1
		for ; i < len(s); i++ {
			switch {
			case s[i] == '\'' && i+1 < len(s) && s[i+1] == '\'':
				label = append(label, '\'')
				i++
				continue
			case s[i] == '\\' && i+1 < len(s):
				i++
				label = append(label, statement.Unescaped(s[i]))
				continue
			case s[i] != '\'':
				label = append(label, s[i])
				continue
			}
			break
		}
		if i >= len(s) {
			return nil, fmt.Errorf("type %q: a label without end", columnType)
		}
		labels = append(labels, label)
		s = s[i+1:]
		if s == "" {
			return labels, nil
		}
		if s[0] != ',' {
			return nil, fmt.Errorf("type %q: no comma between labels", columnType)
		}
		s = s[1:]
	}
}

// QuoteLabel writes a label as the server does in a type.
func QuoteLabel(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "\x00", `\0`, "\n", `\n`, "\r", `\r`, "'", "''").Replace(s) + "'"
}

// LabelsText writes labels as the server does between the brackets of a type.
func LabelsText(labels [][]byte) string {
	parts := make([]string, len(labels))
	for i, l := range labels {
		parts[i] = QuoteLabel(string(l))
	}
	return strings.Join(parts, ",")
}
