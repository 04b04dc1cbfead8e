package charset

import (
	"unicode/utf8"

	"golang.org/x/text/encoding/simplifiedchinese"
)

// IsEastAsian reports the charsets that have characters of two bytes and more and are not of Unicode.
func IsEastAsian(name string) bool {
	switch name {
	case "gbk", "gb2312", "gb18030", "big5", "sjis", "cp932", "ujis", "eucjpms", "euckr":
		return true
	default:
		return false
	}
}

// EastAsian holds what byte strings mean; 0 stands for none.
type EastAsian struct {
	Single [256]rune
	Double [1 << 16]rune
	// Triple has what follows the byte 0x8f; nil for charsets without characters of three bytes.
	Triple *[1 << 16]rune
	// Long says that there are characters of four bytes, which are GB 18030's.
	Long bool
}

// ThreeByteLead is the byte before the other two of a character of three bytes, in ujis and eucjpms.
const ThreeByteLead = 0x8f

// next returns the first character of src and its size; 0 for none.
func (e *EastAsian) next(src []byte) (r rune, size int) {
	if len(src) >= 2 {
		if r = e.Double[int(src[0])<<8|int(src[1])]; r != 0 {
			return r, 2
		}
	}
	if e.Triple != nil && src[0] == ThreeByteLead && len(src) >= 3 {
		if r = e.Triple[int(src[1])<<8|int(src[2])]; r != 0 {
			return r, 3
		}
	}
	if e.Long && len(src) >= 4 && src[0] > utf8.RuneSelf {
		if [4]byte(src) == [4]byte{0x81, 0x35, 0xf4, 0x37} {
			return '\ue7c7', 4 // as in the standard of 2000, which MySQL keeps; the one of 2005 has another character here
		}
		text, err := simplifiedchinese.GB18030.NewDecoder().Bytes(src[:4])
		if r, n := utf8.DecodeRune(text); err == nil && n == len(text) && r != utf8.RuneError {
			return r, 4
		}
		return 0, 0
	}
	if r = e.Single[src[0]]; r != 0 || src[0] == 0 {
		return r, 1
	}
	return 0, 0
}

// Decode is a Charset's Decode.
func (e *EastAsian) Decode(dst, src []byte) ([]byte, []byte, error) {
	if IsASCII(src) {
		return src, dst, nil
	}
	start := len(dst)
	for len(src) > 0 {
		r, size := e.next(src)
		if size == 0 {
			return nil, dst[:start], ErrNotText
		}
		dst = utf8.AppendRune(dst, r)
		src = src[size:]
	}
	return dst[start:len(dst):len(dst)], dst, nil
}
