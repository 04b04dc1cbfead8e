package filter

import (
	"bytes"
	"cmp"
	"strconv"
)

// number is an exact decimal number: sign, digits before the point without leading zeros, digits after it without trailing ones.
type number struct {
	special  int // -1 and 1: the infinities; 2: NaN, which is the greatest
	negative bool
	whole    []byte
	fraction []byte
}

// maxExponent bounds what a number of the configuration may be spelled as; PostgreSQL's numeric has up to 131,072 digits.
const maxExponent = 200_000

// parseNumber reads a number as a database prints it, or as a person writes it. The parts are of text, unless it has an exponent.
func parseNumber(text []byte) (n number, ok bool) {
	rest := text
	if len(rest) > 0 && (rest[0] == '-' || rest[0] == '+') {
		n.negative = rest[0] == '-'
		rest = rest[1:]
	}
	if point := pointOf(rest); point >= 0 { // as databases print it
		n.whole = rest[:point]
		if point < len(rest) {
			n.fraction = rest[point+1:]
		}
		return n.trimmed()
	}
	switch string(rest) {
	case "NaN":
		return number{special: 2}, true
	case "Infinity":
		n.special = 1
		if n.negative {
			n.special = -1
		}
		return n, true
	}
	exponent := 0
	if i := bytes.IndexAny(rest, "eE"); i >= 0 {
		e, err := strconv.Atoi(string(rest[i+1:]))
		if err != nil || e > maxExponent || e < -maxExponent {
			return n, false
		}
		exponent, rest = e, rest[:i]
	}
	n.whole, n.fraction, _ = bytes.Cut(rest, []byte("."))
	if len(n.whole)+len(n.fraction) == 0 || !digits(n.whole) || !digits(n.fraction) {
		return n, false
	}
	if exponent != 0 {
		n.shift(exponent)
	}
	return n.trimmed()
}

// pointOf returns where the point of a number is, or its length when it has none; -1 when there is more than digits and a point.
func pointOf(text []byte) int {
	point := len(text)
	for i, c := range text {
		if c == '.' && point == len(text) {
			point = i
		} else if c < '0' || c > '9' {
			return -1
		}
	}
	return point
}

// trimmed returns the number without the zeros that do not count, or false if it has no digits.
func (n number) trimmed() (number, bool) {
	if len(n.whole)+len(n.fraction) == 0 {
		return n, false
	}
	for len(n.whole) > 0 && n.whole[0] == '0' {
		n.whole = n.whole[1:]
	}
	for len(n.fraction) > 0 && n.fraction[len(n.fraction)-1] == '0' {
		n.fraction = n.fraction[:len(n.fraction)-1]
	}
	if len(n.whole)+len(n.fraction) == 0 {
		n.negative = false // there is one zero
	}
	return n, true
}

// shift moves the point by an exponent of ten.
func (n *number) shift(exponent int) {
	all := append(append([]byte{}, n.whole...), n.fraction...)
	point := len(n.whole) + exponent
	for ; point < 0; point++ {
		all = append([]byte("0"), all...)
	}
	for len(all) < point {
		all = append(all, '0')
	}
	n.whole, n.fraction = all[:point], all[point:]
}

func digits(s []byte) bool {
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

func (n *number) compare(o *number) int {
	if n.special != 0 || o.special != 0 {
		return cmp.Compare(n.special, o.special)
	}
	if n.negative != o.negative {
		return btoi(o.negative) - btoi(n.negative)
	}
	c := cmp.Or(cmp.Compare(len(n.whole), len(o.whole)), bytes.Compare(n.whole, o.whole), bytes.Compare(n.fraction, o.fraction))
	if n.negative {
		return -c
	}
	return c
}
