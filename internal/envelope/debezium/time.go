package debezium

import (
	"bytes"
	"math"
	"strconv"

	"github.com/deltaforge/deltaforge/internal/envelope/parse"
)

const (
	second = parse.Second
	minute = parse.Minute
	hour   = parse.Hour
	day    = parse.Day
	// The infinities of PostgreSQL's timestamps, in microseconds, as its JDBC driver has them.
	plusInfinity  = 9223372036825200000
	minusInfinity = -9223372036832400000
)

// appendDate appends "2024-02-29", with the sign that ISO 8601 wants for years of more than four digits.
func appendDate(dst []byte, days int64) []byte {
	z := days + 719468
	era := parse.Floor(z, 146097)
	dayOfEra := z - era*146097
	yearOfEra := (dayOfEra - dayOfEra/1460 + dayOfEra/36524 - dayOfEra/146096) / 365
	year := yearOfEra + era*400
	dayOfYear := dayOfEra - (365*yearOfEra + yearOfEra/4 - yearOfEra/100)
	mp := (5*dayOfYear + 2) / 153
	month := mp + 3
	if mp >= 10 {
		month -= 12
	}
	if month <= 2 {
		year++
	}
	switch {
	case year > 9999:
		dst = append(dst, '+')
	case year < 0:
		dst = append(dst, '-')
		year = -year
	}
	dst = append(appendDigits(dst, year, 4), '-')
	dst = append(appendDigits(dst, month, 2), '-')
	return appendDigits(dst, dayOfYear-(153*mp+2)/5+1, 2)
}

// appendClock appends "13:51:30.5", with as many digits of a second as said, or as few as are needed for -1.
func appendClock(dst []byte, micros int64, digits int) []byte {
	dst = append(appendDigits(dst, micros/hour, 2), ':')
	dst = append(appendDigits(dst, micros%hour/minute, 2), ':')
	dst = appendDigits(dst, micros%minute/second, 2)
	fraction := micros % second
	if digits < 0 && fraction == 0 || digits == 0 {
		return dst
	}
	dst = appendDigits(append(dst, '.'), fraction, 6)
	if digits > 0 {
		return dst[:len(dst)-6+min(digits, 6)]
	}
	for dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	return dst
}

func appendDigits(dst []byte, n int64, width int) []byte {
	for limit := int64(10); width > 1; width, limit = width-1, limit*10 {
		if n < limit {
			dst = append(dst, '0')
		}
	}
	return strconv.AppendInt(dst, n, 10)
}

// zoned reads "13:51:30.5+02", "…-05:30" or "…+05:30:10" as microseconds of the day in UTC.
func zoned(b []byte) (micros int64, ok bool) {
	n := bytes.LastIndexAny(b, "+-")
	if n < 0 {
		return 0, false
	}
	if micros, ok = parse.Clock(b[:n]); !ok {
		return 0, false
	}
	var offset int64
	unit := int64(hour)
	for part := range bytes.SplitSeq(b[n+1:], []byte{':'}) {
		v, ok := parse.Number(part)
		if !ok {
			return 0, false
		}
		offset += v * unit
		unit /= 60
	}
	if b[n] == '+' {
		offset = -offset
	}
	return ((micros+offset)%day + day) % day, true
}

// interval is one as ISO 8601 has it, by the letters of its parts.
type interval struct{ years, months, days, hours, minutes, micros int64 }

// parseInterval reads "P1Y2M3DT4H5M6.78S"; each part can have a sign.
func parseInterval(b []byte) (v interval, ok bool) {
	if len(b) < 2 || b[0] != 'P' {
		return v, false
	}
	clock := false
	for b = b[1:]; len(b) > 0; {
		if b[0] == 'T' {
			clock, b = true, b[1:]
			continue
		}
		n := bytes.IndexAny(b, "YMWDHS")
		if n < 1 {
			return v, false
		}
		text, negative := bytes.CutPrefix(b[:n], []byte{'-'})
		whole, fraction, _ := bytes.Cut(text, []byte{'.'})
		x, ok := parse.Number(whole)
		if !ok || len(fraction) > 6 {
			return v, false
		}
		var micros int64
		if len(fraction) > 0 {
			if micros, ok = parse.Number(fraction); !ok {
				return v, false
			}
			for range 6 - len(fraction) {
				micros *= 10
			}
		}
		if negative {
			x, micros = -x, -micros
		}
		switch {
		case b[n] == 'Y':
			v.years = x
		case b[n] == 'M' && !clock:
			v.months = x
		case b[n] == 'D':
			v.days = x
		case b[n] == 'H':
			v.hours = x
		case b[n] == 'M':
			v.minutes = x
		case b[n] == 'S' && clock:
			v.micros = x*second + micros
		default:
			return v, false
		}
		b = b[n+1:]
	}
	return v, true
}

// total returns the interval in microseconds, with months of 30.4375 days, or false where they have more than 64 bits.
func (v interval) total() (int64, bool) {
	const month = 2_629_800_000_000
	months := v.years*12 + v.months
	if months > math.MaxInt64/2/month || months < math.MinInt64/2/month || v.days > math.MaxInt64/8/day || v.days < math.MinInt64/8/day ||
		v.hours > math.MaxInt64/8/hour || v.hours < math.MinInt64/8/hour {
		return 0, false
	}
	return months*month + v.days*day + v.hours*hour + v.minutes*minute + v.micros, true
}

// append appends every part of it, those that are zero too.
func (v interval) append(dst []byte) []byte {
	for i, part := range [5]int64{v.years, v.months, v.days, v.hours, v.minutes} {
		dst = append(dst, [...]string{"P", "Y", "M", "DT", "H"}[i]...)
		dst = strconv.AppendInt(dst, part, 10)
	}
	dst = append(dst, 'M')
	micros := v.micros
	if micros < 0 {
		dst = append(dst, '-')
		micros = -micros
	}
	dst = strconv.AppendInt(dst, micros/second, 10)
	if fraction := micros % second; fraction != 0 {
		dst = appendDigits(append(dst, '.'), fraction, 6)
		for dst[len(dst)-1] == '0' {
			dst = dst[:len(dst)-1]
		}
	}
	return append(dst, 'S')
}
