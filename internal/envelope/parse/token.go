package parse

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strconv"
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

// Next returns the first value of what is left of a JSON array, and what follows it; nil at the end.
func Next(b []byte) (token, rest []byte) {
	for len(b) > 0 && (b[0] == ',' || b[0] == ' ') {
		b = b[1:]
	}
	n := TokenSize(b)
	if n == 0 {
		return nil, nil
	}
	return b[:n], b[n:]
}

// Unquoted returns what a JSON string says, or another token as it is.
func Unquoted(token []byte) ([]byte, bool) {
	if len(token) < 2 || token[0] != '"' {
		return token, true
	}
	return Text(token)
}

// Base64 returns the bytes that the native form has as {"_base64":"…"}.
func Base64(token []byte) ([]byte, bool) {
	b, err := base64.StdEncoding.AppendDecode(nil, bytes.TrimSuffix(bytes.TrimPrefix(token, []byte(`{"_base64":"`)), []byte(`"}`)))
	return b, err == nil
}

// Geometry appends the bytes of a geometry, {"wkb":…,"srid":…} in the native form, to dst, and returns its reference system.
func Geometry(dst, raw []byte) (wkb []byte, srid int64, ok bool) {
	text, number, ok := bytes.Cut(bytes.TrimSuffix(bytes.TrimPrefix(raw, []byte(`{"wkb":"`)), []byte{'}'}), []byte(`","srid":`))
	wkb, err := base64.StdEncoding.AppendDecode(dst, text)
	if !ok || err != nil {
		return wkb, 0, false
	}
	if srid, err = strconv.ParseInt(string(number), 10, 32); err != nil {
		srid = 0 // there is none
	}
	return wkb, srid, true
}
