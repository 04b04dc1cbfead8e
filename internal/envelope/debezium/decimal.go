package debezium

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"math/big"
	"math/bits"
)

// appendUnscaled appends, in base64, the decimal text as an integer of units of 10^-scale: big-endian, two's complement, in as few bytes
// as there can be. It reports false for a text that is not a number, such as NaN, or has digits below the unit.
func appendUnscaled(dst, text []byte, scale int) ([]byte, bool) {
	negative := len(text) > 0 && text[0] == '-'
	if negative {
		text = text[1:]
	}
	whole, fraction, _ := bytes.Cut(text, []byte{'.'})
	for len(fraction) > max(scale, 0) && fraction[len(fraction)-1] == '0' {
		fraction = fraction[:len(fraction)-1]
	}
	for scale < 0 && len(whole) > 0 && whole[len(whole)-1] == '0' {
		whole = whole[:len(whole)-1]
		scale++
	}
	zeros := scale - len(fraction)
	if len(whole)+len(fraction) == 0 {
		return dst, len(text) > 0 && text[0] == '0'
	}
	if zeros < 0 {
		return dst, false
	}
	if len(whole)+len(fraction)+zeros > wordDigits {
		return appendLarge(dst, whole, fraction, zeros, negative)
	}
	var n wide
	for _, part := range [2][]byte{whole, fraction} {
		for _, c := range part {
			if c < '0' || c > '9' {
				return dst, false
			}
			n.timesTenPlus(uint64(c - '0'))
		}
	}
	for range zeros {
		n.timesTenPlus(0)
	}
	return n.append(dst, negative), true
}

// appendLarge is for numbers that no column of MySQL has.
func appendLarge(dst, whole, fraction []byte, zeros int, negative bool) ([]byte, bool) {
	digits := append(append([]byte{}, whole...), fraction...)
	digits = append(digits, bytes.Repeat([]byte{'0'}, zeros)...)
	n, ok := new(big.Int).SetString(string(digits), 10)
	if !ok {
		return dst, false
	}
	b := n.Bytes()
	if negative && n.Sign() != 0 {
		size := n.BitLen()/8 + 1
		n.Sub(new(big.Int).Lsh(big.NewInt(1), uint(size)*8), n) //nolint:gosec // not negative
		b = n.FillBytes(make([]byte, size))
	} else if len(b) == 0 || b[0]&0x80 != 0 {
		b = append([]byte{0}, b...)
	}
	return base64.StdEncoding.AppendEncode(dst, shortest(b)), true
}

// wide is an integer of 256 bits, the lowest word first. It holds wordDigits digits and a sign.
type wide [4]uint64

const wordDigits = 76

func (w *wide) timesTenPlus(n uint64) {
	for i := range w {
		hi, lo := bits.Mul64(w[i], 10)
		var carry uint64
		w[i], carry = bits.Add64(lo, n, 0)
		n = hi + carry
	}
}

func (w *wide) append(dst []byte, negative bool) []byte {
	if negative {
		carry := uint64(1)
		for i := range w {
			w[i], carry = bits.Add64(^w[i], 0, carry)
		}
	}
	var b [32]byte
	for i, word := range w {
		binary.BigEndian.PutUint64(b[len(b)-8*(i+1):], word)
	}
	return base64.StdEncoding.AppendEncode(dst, shortest(b[:]))
}

// shortest leaves out leading bytes that only repeat the sign.
func shortest(b []byte) []byte {
	for len(b) > 1 && (b[0] == 0 && b[1] < 0x80 || b[0] == 0xff && b[1] >= 0x80) {
		b = b[1:]
	}
	return b
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
