package parse

import (
	"bytes"
	"encoding/binary"
	"math/big"
	"math/bits"
)

// wide is an integer of 256 bits, the lowest word first. It holds wordDigits digits and a sign.
type wide [4]uint64

const wordDigits = 76

// AppendUnscaled appends the decimal text as an integer of units of 10^-scale: big-endian, two's complement, in as few bytes
// as there can be. It reports false for a text that is not a number, such as NaN, or has digits below the unit.
func AppendUnscaled(dst, text []byte, scale int) ([]byte, bool) {
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
	if len(whole)+len(fraction)+zeros <= longDigits {
		return appendLong(dst, whole, fraction, zeros, negative)
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

// longDigits is how many digits an integer of 64 bits always has room for.
const longDigits = 18

// appendLong is for the numbers that most columns have.
func appendLong(dst, whole, fraction []byte, zeros int, negative bool) ([]byte, bool) {
	n := int64(0)
	for _, part := range [2][]byte{whole, fraction} {
		for _, c := range part {
			if c < '0' || c > '9' {
				return dst, false
			}
			n = n*10 + int64(c-'0')
		}
	}
	for range zeros {
		n *= 10
	}
	if negative {
		n = -n
	}
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n)) //nolint:gosec // two's complement
	return append(dst, shortest(b[:])...), true
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
	return append(dst, shortest(b)...), true
}

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
	return append(dst, shortest(b[:])...)
}

// shortest leaves out leading bytes that only repeat the sign.
func shortest(b []byte) []byte {
	for len(b) > 1 && (b[0] == 0 && b[1] < 0x80 || b[0] == 0xff && b[1] >= 0x80) {
		b = b[1:]
	}
	return b
}
