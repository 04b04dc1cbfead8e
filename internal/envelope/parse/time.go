// Package parse reads the texts of values as the inputs deliver them: dates and times, decimals, and the JSON of arrays.
package parse

import (
	"bytes"
	"math"
)

// Units of time, in microseconds.
const (
	Second = 1_000_000
	Minute = 60 * Second
	Hour   = 60 * Minute
	Day    = 24 * Hour
)

// DateTime is a date and time of the calendar, Gregorian also before there was one.
type DateTime struct {
	Days   int64 // since 1970-01-01
	Micros int64 // of the day
	Year   int64
	Zero   bool // a date that no calendar has: "0000-00-00", "2024-00-10"
}

// Moment reads what the inputs deliver: "2024-02-29", "2024-02-29T13:51:30.123456", "…Z", "12024-…", "0044-03-15 00:00:00+00 BC".
func Moment(b []byte) (m DateTime, ok bool) {
	text, bc := bytes.CutSuffix(b, []byte(" BC"))
	n := bytes.IndexByte(text, '-')
	if n < 4 || len(text) < n+6 || text[n+3] != '-' {
		return m, false
	}
	var month, dayOf int64
	if m.Year, ok = Number(text[:n]); !ok {
		return m, false
	}
	if month, ok = Number(text[n+1 : n+3]); !ok || month > 12 {
		return m, false
	}
	if dayOf, ok = Number(text[n+4 : n+6]); !ok || dayOf > 31 {
		return m, false
	}
	if bc {
		m.Year = 1 - m.Year
	}
	m.Zero = month == 0 || dayOf == 0
	m.Days = daysOf(m.Year, month, dayOf)
	if text = text[n+6:]; len(text) == 0 {
		return m, true
	}
	text = text[1:] // T or a space
	clock := text
	if end := bytes.IndexAny(text, "Z+"); end >= 0 { // always UTC
		clock = text[:end]
	}
	m.Micros, ok = Clock(clock)
	return m, ok
}

// daysOf counts days since 1970-01-01 ("chrono-Compatible Low-Level Date Algorithms", days_from_civil).
func daysOf(year, month, dayOf int64) int64 {
	if month <= 2 {
		year--
	}
	era := Floor(year, 400)
	yearOfEra := year - era*400
	dayOfYear := (153*((month+9)%12)+2)/5 + dayOf - 1
	return era*146097 + yearOfEra*365 + yearOfEra/4 - yearOfEra/100 + dayOfYear - 719468
}

// Clock reads "13:51:30.123456" or "-838:59:59" as microseconds.
func Clock(b []byte) (micros int64, ok bool) {
	b, negative := bytes.CutPrefix(b, []byte{'-'})
	n := bytes.IndexByte(b, ':')
	if n < 2 || len(b) < n+6 || b[n+3] != ':' {
		return 0, false
	}
	for _, part := range [3]struct {
		text []byte
		unit int64
	}{{b[:n], Hour}, {b[n+1 : n+3], Minute}, {b[n+4 : n+6], Second}} {
		v, ok := Number(part.text)
		if !ok {
			return 0, false
		}
		micros += v * part.unit
	}
	if b = b[n+6:]; len(b) > 0 {
		if b[0] != '.' || len(b) > 7 {
			return 0, false
		}
		v, ok := Number(b[1:])
		if !ok {
			return 0, false
		}
		for range 7 - len(b) {
			v *= 10
		}
		micros += v
	}
	if negative {
		micros = -micros
	}
	return micros, true
}

// Number reads digits.
func Number(b []byte) (n int64, ok bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// Floor returns a/b, rounded down.
func Floor(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// In returns the moment as a number of units since 1970, each of so many microseconds, or 0 for nanoseconds. It reports false when the
// number has more than 64 bits.
func (m DateTime) In(unit int64) (int64, bool) {
	if m.Days > math.MaxInt64/Day || m.Days < math.MinInt64/Day {
		if unit <= 1 {
			return 0, false
		}
		return m.Days*(Day/unit) + m.Micros/unit, true
	}
	n := m.Days * Day
	if n > math.MaxInt64-m.Micros {
		if unit <= 1 {
			return 0, false
		}
		return m.Days*(Day/unit) + m.Micros/unit, true
	}
	n += m.Micros
	if unit > 0 {
		return Floor(n, unit), true
	}
	if n > math.MaxInt64/1000 || n < math.MinInt64/1000 {
		return 0, false
	}
	return n * 1000, true
}
