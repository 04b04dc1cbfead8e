package filter

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"time"
)

// moment is a date, a time of day, or both, in the order in which they are compared. A date is its midnight. A time of day has no date;
// it may be negative and have more than 24 hours (MySQL).
type moment struct {
	infinite int // -1, 0, 1
	day      bool
	parts    [7]int // year, month, day, hour, minute, second, nanoseconds; of a negative time, all of them negative
}

func (m *moment) compare(o *moment) int {
	return cmp.Or(cmp.Compare(m.infinite, o.infinite), slices.Compare(m.parts[:], o.parts[:]))
}

// parseMoment reads a date, a time, or both, as the envelope has them, with a space in place of the T, and with an offset in place of the Z.
func parseMoment(text []byte) (m moment, ok bool) {
	switch string(text) {
	case "infinity":
		return moment{infinite: 1}, true
	case "-infinity":
		return moment{infinite: -1}, true
	}
	text, bc := bytes.CutSuffix(text, []byte(" BC"))
	date, clock := text, []byte(nil)
	switch i := bytes.IndexAny(text, "T "); {
	case i >= 0:
		date, clock = text[:i], text[i+1:]
		if len(clock) == 0 {
			return m, false
		}
	case bytes.IndexByte(text, ':') >= 0:
		date, clock = nil, text
	}
	if date != nil && !m.parseDate(date) {
		return m, false
	}
	if bc {
		m.parts[0] = 1 - m.parts[0]
	}
	if clock == nil {
		return m, true
	}
	return m, m.parseClock(clock)
}

func (m *moment) parseDate(text []byte) bool {
	parts := bytes.Split(text, []byte("-"))
	if len(parts) != 3 || len(parts[0]) < 4 {
		return false
	}
	m.day = true
	return number3(m.parts[:3], parts)
}

// number3 reads three numbers without signs.
func number3(dst []int, parts [][]byte) bool {
	for i, p := range parts {
		n, err := strconv.Atoi(string(p))
		if err != nil || !digits(p) {
			return false
		}
		dst[i] = n
	}
	return true
}

func (m *moment) parseClock(text []byte) bool {
	offset := 0
	if m.day {
		var ok bool
		if text, offset, ok = cutOffset(text); !ok {
			return false
		}
	}
	negative := false
	if !m.day {
		text, negative = bytes.CutPrefix(text, []byte("-"))
	}
	text, fraction, _ := bytes.Cut(text, []byte("."))
	parts := bytes.Split(text, []byte(":"))
	if len(parts) == 2 {
		parts = append(parts, []byte("0"))
	}
	if len(parts) != 3 || !number3(m.parts[3:6], parts) || len(fraction) > 9 || !digits(fraction) {
		return false
	}
	if len(fraction) > 0 {
		n, _ := strconv.Atoi(string(fraction) + "000000000"[len(fraction):])
		m.parts[6] = n
	}
	if negative {
		for i := range m.parts {
			m.parts[i] = -m.parts[i]
		}
	}
	if offset != 0 {
		p := m.parts
		t := time.Date(p[0], time.Month(p[1]), p[2], p[3], p[4], p[5]-offset, p[6], time.UTC)
		m.parts = [7]int{t.Year(), int(t.Month()), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond()}
	}
	return true
}

// cutOffset takes a zone off the end of a time: Z, +02, +02:00, +0200. It returns the seconds east of UTC.
func cutOffset(text []byte) (rest []byte, seconds int, ok bool) {
	if rest, ok := bytes.CutSuffix(text, []byte("Z")); ok {
		return rest, 0, true
	}
	i := bytes.LastIndexAny(text, "+-")
	if i < 0 {
		return text, 0, true
	}
	zone := bytes.ReplaceAll(text[i+1:], []byte(":"), nil)
	if len(zone) == 2 {
		zone = append(slices.Clone(zone), "00"...)
	}
	n, err := strconv.Atoi(string(zone))
	if err != nil || len(zone) != 4 || !digits(zone) {
		return nil, 0, false
	}
	seconds = n/100*3600 + n%100*60
	if text[i] == '-' {
		seconds = -seconds
	}
	return text[:i], seconds, true
}
