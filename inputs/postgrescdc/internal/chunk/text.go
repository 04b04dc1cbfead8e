package chunk

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/deltaforge/deltaforge/internal/change"
)

// textOf returns a value as the server reads it.
func textOf(c *change.Column, v change.Value) ([]byte, error) {
	switch v.Kind() {
	case change.Bool:
		yes, no := "t", "f"
		if strings.HasPrefix(c.Type, "bit") {
			yes, no = "1", "0"
		}
		if v.Bool() {
			return []byte(yes), nil
		}
		return []byte(no), nil
	case change.Int:
		return strconv.AppendInt(nil, v.Int(), 10), nil
	case change.Uint:
		return strconv.AppendUint(nil, v.Uint(), 10), nil
	case change.Float32:
		return strconv.AppendFloat(nil, float64(v.Float32()), 'g', -1, 32), nil
	case change.Float64:
		return strconv.AppendFloat(nil, v.Float64(), 'g', -1, 64), nil
	case change.Bytes:
		if c.Logical != change.LogicalBytes { // text that is not UTF-8
			return v.Bytes(), nil
		}
		return hex.AppendEncode([]byte(`\x`), v.Bytes()), nil
	case change.Decimal, change.Text:
		return v.Bytes(), nil
	case change.JSON:
		if c.Logical == change.LogicalJSON {
			return v.Bytes(), nil
		}
		return nil, fmt.Errorf("values of the type %s cannot be looked for", c.Type)
	default:
		return nil, errors.New("an event does not have it")
	}
}

// appendElement appends an element to the text of an array, which lacks its closing brace.
func appendElement(dst, text []byte) []byte {
	if dst == nil {
		dst = append(dst, '{')
	} else {
		dst = append(dst, ',')
	}
	dst = append(dst, '"')
	for _, b := range text {
		if b == '"' || b == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, b)
	}
	return append(dst, '"')
}
