// Package charset turns the text of every character set that servers have into UTF-8.
package charset

import (
	"encoding/binary"
	"errors"
	"unicode/utf16"
	"unicode/utf8"
)

// Charset turns the bytes of a column into UTF-8.
type Charset struct {
	Name string
	// ASCII says that bytes below 128 are what they are in ASCII, so that text of such bytes is UTF-8 already.
	ASCII bool
	// Decode appends the UTF-8 of src to dst and returns the text and the grown dst. The text is src itself where that
	// is UTF-8 already. An error means that src is not text of the charset.
	Decode func(dst, src []byte) (text, grown []byte, err error)
}

var (
	ErrNotText        = errors.New("bytes that are not text of the column's character set; undecodable_text: base64 delivers them as binary")
	errUnknownCharset = errors.New("a character set that this version does not know")
)

// New returns the charset of MySQL's name, or one that decodes nothing when the name is not known. Charsets of one byte
// a character and those of East Asia, which are read from the server, are not known here.
func New(name string) *Charset {
	switch name {
	case "utf8mb4", "utf8mb3", "utf8":
		return &Charset{name, true, decodeUTF8}
	case "ascii":
		return &Charset{name, true, decodeASCII}
	case "utf16":
		return &Charset{name, false, decodeUTF16(binary.BigEndian)}
	case "utf16le":
		return &Charset{name, false, decodeUTF16(binary.LittleEndian)}
	case "ucs2":
		return &Charset{name, false, decodeUCS2}
	case "utf32":
		return &Charset{name, false, decodeUTF32}
	}
	return &Charset{name, false, decodeUnknown}
}

// NewSingleByte returns a charset of one byte a character. The table has the UTF-8 of each byte, empty for none.
func NewSingleByte(name string, table [256]string) *Charset {
	likeASCII := true
	for b := range utf8.RuneSelf {
		likeASCII = likeASCII && table[b] == string(rune(b))
	}
	return &Charset{name, likeASCII, func(dst, src []byte) ([]byte, []byte, error) {
		if likeASCII && IsASCII(src) {
			return src, dst, nil
		}
		start := len(dst)
		for _, b := range src {
			if table[b] == "" {
				return nil, dst[:start], ErrNotText
			}
			dst = append(dst, table[b]...)
		}
		return dst[start:len(dst):len(dst)], dst, nil
	}}
}

func decodeUTF8(dst, src []byte) ([]byte, []byte, error) {
	if !utf8.Valid(src) {
		return nil, dst, ErrNotText
	}
	return src, dst, nil
}

// IsASCII reports whether all bytes are below 128.
func IsASCII(p []byte) bool {
	for len(p) >= 8 {
		if binary.LittleEndian.Uint64(p)&0x8080808080808080 != 0 {
			return false
		}
		p = p[8:]
	}
	for _, c := range p {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func decodeASCII(dst, src []byte) ([]byte, []byte, error) {
	if !IsASCII(src) {
		return nil, dst, ErrNotText
	}
	return src, dst, nil
}

func decodeUnknown(dst, src []byte) ([]byte, []byte, error) {
	if len(src) > 0 {
		return nil, dst, errUnknownCharset
	}
	return src, dst, nil
}

func decodeUTF16(order binary.ByteOrder) func(dst, src []byte) ([]byte, []byte, error) {
	return func(dst, src []byte) ([]byte, []byte, error) {
		if len(src)%2 != 0 {
			return nil, dst, ErrNotText
		}
		start := len(dst)
		for i := 0; i < len(src); i += 2 {
			r := rune(order.Uint16(src[i:]))
			if utf16.IsSurrogate(r) {
				if i += 2; i >= len(src) {
					return nil, dst, ErrNotText
				}
				if r = utf16.DecodeRune(r, rune(order.Uint16(src[i:]))); r == utf8.RuneError {
					return nil, dst, ErrNotText
				}
			}
			dst = utf8.AppendRune(dst, r)
		}
		return dst[start:len(dst):len(dst)], dst, nil
	}
}

func decodeUCS2(dst, src []byte) ([]byte, []byte, error) {
	if len(src)%2 != 0 {
		return nil, dst, ErrNotText
	}
	start := len(dst)
	for i := 0; i < len(src); i += 2 {
		r := rune(binary.BigEndian.Uint16(src[i:]))
		if utf16.IsSurrogate(r) {
			return nil, dst, ErrNotText
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst[start:len(dst):len(dst)], dst, nil
}

func decodeUTF32(dst, src []byte) ([]byte, []byte, error) {
	if len(src)%4 != 0 {
		return nil, dst, ErrNotText
	}
	start := len(dst)
	for i := 0; i < len(src); i += 4 {
		r := rune(binary.BigEndian.Uint32(src[i:]))
		if !utf8.ValidRune(r) {
			return nil, dst, ErrNotText
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst[start:len(dst):len(dst)], dst, nil
}
