package debezium

import (
	"bytes"
	"encoding/base64"

	"github.com/deltaforge/deltaforge/internal/envelope/parse"
)

// appendUnscaled appends a decimal as parse.AppendUnscaled does, in base64.
func appendUnscaled(dst, text []byte, scale int) ([]byte, bool) {
	var room [32]byte
	b, ok := parse.AppendUnscaled(room[:0], text, scale)
	return base64.StdEncoding.AppendEncode(dst, b), ok
}

// strip returns a decimal without the zeros at the end of its fraction, and how many digits the fraction then has.
func strip(text []byte) ([]byte, int) {
	point := bytes.IndexByte(text, '.')
	if point < 0 {
		return text, 0
	}
	end := len(text)
	for text[end-1] == '0' {
		end--
	}
	if end == point+1 {
		return text[:point], 0
	}
	return text[:end], end - point - 1
}

// appendMoney appends, as decimal text with two digits of fraction, what PostgreSQL prints for money: "-$1,234.50", "(1.234,50 €)".
func appendMoney(dst, text []byte) []byte {
	if bytes.IndexByte(text, '-') >= 0 || bytes.IndexByte(text, '(') >= 0 {
		dst = append(dst, '-')
	}
	point := bytes.LastIndexAny(text, ".,")
	if point >= 0 {
		digits := 0
		for _, c := range text[point+1:] {
			if c >= '0' && c <= '9' {
				digits++
			}
		}
		if digits == 3 { // between thousands
			point = -1
		}
	}
	fraction := 0
	for i, c := range text {
		if i == point {
			dst = append(dst, '.')
		}
		if c >= '0' && c <= '9' {
			dst = append(dst, c)
			if point >= 0 && i > point {
				fraction++
			}
		}
	}
	if point < 0 {
		dst = append(dst, '.')
	}
	for ; fraction < 2; fraction++ {
		dst = append(dst, '0')
	}
	return dst
}
