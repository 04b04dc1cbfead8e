package value

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/deltaforge/deltaforge/internal/change"
)

// The text forms of scalar types, as the session's settings make them: TimeZone UTC, DateStyle ISO, IntervalStyle
// iso_8601, bytea_output hex.

func parseBool(raw []byte) (change.Value, error) {
	if len(raw) == 1 && (raw[0] == 't' || raw[0] == 'f') {
		return change.BoolValue(raw[0] == 't'), nil
	}
	return change.Value{}, fmt.Errorf("boolean %q", raw)
}

func parseBit(raw []byte) (change.Value, error) {
	if len(raw) == 1 && (raw[0] == '0' || raw[0] == '1') {
		return change.BoolValue(raw[0] == '1'), nil
	}
	return change.Value{}, fmt.Errorf("bit(1) %q", raw)
}

func parseUint(raw []byte) (uint64, error) {
	var n uint64
	for _, c := range raw {
		if c < '0' || c > '9' || n > (1<<64-1)/10 || n == (1<<64-1)/10 && c > '5' {
			return 0, fmt.Errorf("integer %q", raw)
		}
		n = n*10 + uint64(c-'0')
	}
	if len(raw) == 0 {
		return 0, fmt.Errorf("integer %q", raw)
	}
	return n, nil
}

func parseInt(raw []byte) (int64, error) {
	digits := raw
	negative := len(raw) > 0 && raw[0] == '-'
	if negative {
		digits = raw[1:]
	}
	n, err := parseUint(digits)
	if err != nil {
		return 0, fmt.Errorf("integer %q", raw)
	}
	switch {
	case negative && n <= 1<<63:
		return -int64(n), nil
	case !negative && n < 1<<63:
		return int64(n), nil
	default:
		return 0, fmt.Errorf("integer %q", raw)
	}
}

// checkInteger makes sure that the text is one integer of up to 64 bits.
func checkInteger(raw []byte) error {
	if len(raw) > 0 && raw[0] == '-' {
		_, err := parseInt(raw)
		return err
	}
	_, err := parseUint(raw)
	return err
}

func parseFloat(raw []byte, bits int) (float64, error) {
	f, err := strconv.ParseFloat(string(raw), bits)
	if err != nil {
		return 0, fmt.Errorf("floating-point number %q", raw)
	}
	return f, nil
}

// checkNumeric makes sure that the text can stand between quotes.
func checkNumeric(raw []byte) error {
	for _, c := range raw {
		if (c < '0' || c > '9') && c != '.' && c != '-' && c != '+' && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return fmt.Errorf("numeric %q", raw)
		}
	}
	if len(raw) == 0 {
		return fmt.Errorf("numeric %q", raw)
	}
	return nil
}

// appendTime appends a time of day with its declared number of fractional digits; the server leaves trailing zeros out.
// What follows the seconds (the offset of a timetz) stays as it is.
func appendTime(dst, raw []byte, digits int) ([]byte, error) {
	if len(raw) < 8 || raw[2] != ':' || raw[5] != ':' {
		return nil, fmt.Errorf("time %q", raw)
	}
	dst = append(dst, raw[:8]...)
	rest := raw[8:]
	n := 0
	if len(rest) > 0 && rest[0] == '.' {
		rest = rest[1:]
		for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
			n++
		}
		if n == 0 || n > 9 {
			return nil, fmt.Errorf("time %q", raw)
		}
	}
	if n == 0 && len(rest) > 0 && rest[0] >= '0' && rest[0] <= '9' {
		return nil, fmt.Errorf("time %q", raw)
	}
	if n > 0 || digits > 0 {
		dst = append(dst, '.')
		dst = append(dst, rest[:n]...)
		for range digits - n {
			dst = append(dst, '0')
		}
	}
	return append(dst, rest[n:]...), nil
}

// appendTimestamp appends a timestamp in ISO 8601 form, with a Z when it is an instant. Infinities and years before
// Christ stay as the server prints them.
func appendTimestamp(dst, raw []byte, digits int, instant bool) ([]byte, error) {
	day, clock, ok := bytes.Cut(raw, []byte{' '})
	if !ok || bytes.HasSuffix(raw, []byte(" BC")) {
		if !ok && !bytes.HasSuffix(raw, []byte("infinity")) {
			return nil, fmt.Errorf("timestamp %q", raw)
		}
		return append(dst, raw...), nil
	}
	if instant {
		if clock, ok = bytes.CutSuffix(clock, []byte("+00")); !ok {
			return nil, fmt.Errorf("timestamp %q is not in UTC", raw)
		}
	}
	dst = append(dst, day...)
	dst = append(dst, 'T')
	dst, err := appendTime(dst, clock, digits)
	if err != nil {
		return nil, err
	}
	if instant {
		dst = append(dst, 'Z')
	}
	return dst, nil
}
