package mysqlcdc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
)

// charset turns the bytes of a column into UTF-8.
type charset struct {
	name string
	// decode appends the UTF-8 of src to dst and returns the text and the grown dst. The text is src itself where that
	// is UTF-8 already. An error means that src is not text of the charset.
	decode func(dst, src []byte) (text, grown []byte, err error)
}

var (
	errNotText        = errors.New("bytes that are not text of the column's character set")
	errUnknownCharset = errors.New("a character set that this version does not know")
)

// newCharset returns the charset of MySQL's name. A charset that is not known decodes nothing but ASCII.
func newCharset(name string) *charset {
	switch name {
	case "utf8mb4", "utf8mb3", "utf8":
		return &charset{name, decodeUTF8}
	case "ascii":
		return &charset{name, decodeASCII}
	case "utf16":
		return &charset{name, decodeUTF16(binary.BigEndian)}
	case "utf16le":
		return &charset{name, decodeUTF16(binary.LittleEndian)}
	case "ucs2":
		return &charset{name, decodeUCS2}
	case "utf32":
		return &charset{name, decodeUTF32}
	}
	if enc := legacyEncoding(name); enc != nil {
		return &charset{name, decodeLegacy(enc)}
	}
	return &charset{name, decodeUnknown}
}

// legacyEncoding maps MySQL's names. MySQL's latin1 is Windows-1252 with the five holes as control characters, which is what
// the WHATWG table has too.
func legacyEncoding(name string) encoding.Encoding {
	switch name {
	case "latin1":
		return charmap.Windows1252
	case "latin2":
		return charmap.ISO8859_2
	case "latin5":
		return charmap.ISO8859_9
	case "latin7":
		return charmap.ISO8859_13
	case "greek":
		return charmap.ISO8859_7
	case "hebrew":
		return charmap.ISO8859_8
	case "cp1250":
		return charmap.Windows1250
	case "cp1251":
		return charmap.Windows1251
	case "cp1256":
		return charmap.Windows1256
	case "cp1257":
		return charmap.Windows1257
	case "cp850":
		return charmap.CodePage850
	case "cp852":
		return charmap.CodePage852
	case "cp866":
		return charmap.CodePage866
	case "koi8r":
		return charmap.KOI8R
	case "koi8u":
		return charmap.KOI8U
	case "macroman":
		return charmap.Macintosh
	case "tis620":
		return charmap.Windows874
	case "gbk", "gb2312":
		return simplifiedchinese.GBK
	case "gb18030":
		return simplifiedchinese.GB18030
	case "big5":
		return traditionalchinese.Big5
	case "sjis", "cp932":
		return japanese.ShiftJIS
	case "ujis", "eucjpms":
		return japanese.EUCJP
	case "euckr":
		return korean.EUCKR
	default:
		return nil
	}
}

func decodeUTF8(dst, src []byte) ([]byte, []byte, error) {
	if !utf8.Valid(src) {
		return nil, dst, errNotText
	}
	return src, dst, nil
}

func isASCII(p []byte) bool {
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
	if !isASCII(src) {
		return nil, dst, errNotText
	}
	return src, dst, nil
}

func decodeUnknown(dst, src []byte) ([]byte, []byte, error) {
	if !isASCII(src) {
		return nil, dst, errUnknownCharset
	}
	return src, dst, nil
}

func decodeLegacy(enc encoding.Encoding) func(dst, src []byte) ([]byte, []byte, error) {
	return func(dst, src []byte) ([]byte, []byte, error) {
		if isASCII(src) {
			return src, dst, nil
		}
		text, err := enc.NewDecoder().Bytes(src)
		if err != nil {
			return nil, dst, fmt.Errorf("%w: %w", errNotText, err)
		}
		if bytes.ContainsRune(text, utf8.RuneError) { // none of these charsets has the replacement character itself
			return nil, dst, errNotText
		}
		return text, dst, nil
	}
}

func decodeUTF16(order binary.ByteOrder) func(dst, src []byte) ([]byte, []byte, error) {
	return func(dst, src []byte) ([]byte, []byte, error) {
		if len(src)%2 != 0 {
			return nil, dst, errNotText
		}
		start := len(dst)
		for i := 0; i < len(src); i += 2 {
			r := rune(order.Uint16(src[i:]))
			if utf16.IsSurrogate(r) {
				if i += 2; i >= len(src) {
					return nil, dst, errNotText
				}
				if r = utf16.DecodeRune(r, rune(order.Uint16(src[i:]))); r == utf8.RuneError {
					return nil, dst, errNotText
				}
			}
			dst = utf8.AppendRune(dst, r)
		}
		return dst[start:len(dst):len(dst)], dst, nil
	}
}

func decodeUCS2(dst, src []byte) ([]byte, []byte, error) {
	if len(src)%2 != 0 {
		return nil, dst, errNotText
	}
	start := len(dst)
	for i := 0; i < len(src); i += 2 {
		r := rune(binary.BigEndian.Uint16(src[i:]))
		if utf16.IsSurrogate(r) {
			return nil, dst, errNotText
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst[start:len(dst):len(dst)], dst, nil
}

func decodeUTF32(dst, src []byte) ([]byte, []byte, error) {
	if len(src)%4 != 0 {
		return nil, dst, errNotText
	}
	start := len(dst)
	for i := 0; i < len(src); i += 4 {
		r := rune(binary.BigEndian.Uint32(src[i:]))
		if !utf8.ValidRune(r) {
			return nil, dst, errNotText
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst[start:len(dst):len(dst)], dst, nil
}
