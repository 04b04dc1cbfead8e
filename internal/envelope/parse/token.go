package parse

import (
	"bytes"
	"encoding/json"
)

// TokenSize returns the size of the JSON value at the start of b.
func TokenSize(b []byte) int {
	depth, inString := 0, false
	for i := 0; i < len(b); i++ {
		c := b[i]
		switch {
		case inString && c == '\\':
			i++
		case c == '"':
			if inString = !inString; !inString && depth == 0 {
				return i + 1
			}
		case inString:
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			if depth == 0 {
				return i
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case c == ',' && depth == 0:
			return i
		}
	}
	return len(b)
}

// Text returns what a JSON string says; a part of it where nothing in it is escaped. It reports false for what is none.
func Text(token []byte) ([]byte, bool) {
	text := token[1 : len(token)-1]
	if bytes.IndexByte(text, '\\') < 0 {
		return text, true
	}
	var s string
	err := json.Unmarshal(token, &s)
	return []byte(s), err == nil
}
