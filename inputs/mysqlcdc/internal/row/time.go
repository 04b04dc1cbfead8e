package row

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
)

var errBadTime = errors.New("a date or time that MySQL cannot hold")

// appendDigits appends v in decimal with at least width digits.
func appendDigits(dst []byte, v uint64, width int) []byte {
	var d [20]byte
	i := len(d)
	for v > 0 || len(d)-i < width {
		i--
		d[i] = byte('0' + v%10)
		v /= 10
	}
	return append(dst, d[i:]...)
}

// appendFraction appends "." and the first digits of a number of microseconds; nothing for no digits.
func appendFraction(dst []byte, micros uint64, digits int) []byte {
	if digits <= 0 {
		return dst
	}
	dst = append(dst, '.')
	var d [6]byte
	for i := len(d) - 1; i >= 0; i-- {
		d[i] = byte('0' + micros%10)
		micros /= 10
	}
	return append(dst, d[:min(digits, 6)]...)
}

// pairs are the numbers below 100, two digits each.
const pairs = "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748495051525354555657" +
	"585960616263646566676869707172737475767778798081828384858687888990919293949596979899"

func appendDate(dst []byte, year, month, day uint64) []byte {
	dst = append(dst, pairs[year/100*2], pairs[year/100*2+1], pairs[year%100*2], pairs[year%100*2+1], '-')
	return append(dst, pairs[month*2], pairs[month*2+1], '-', pairs[day*2], pairs[day*2+1])
}

func appendClock(dst []byte, hour, minute, second uint64) []byte {
	if hour > 99 {
		dst = append(appendDigits(dst, hour, 2), ':')
	} else {
		dst = append(dst, pairs[hour*2], pairs[hour*2+1], ':')
	}
	return append(dst, pairs[minute*2], pairs[minute*2+1], ':', pairs[second*2], pairs[second*2+1])
}

// appendDateTime appends "2024-02-29T13:51:30.12". A date that has a zero month or day is no date of the calendar and is shown
// as the server shows it, with a space.
func appendDateTime(dst []byte, year, month, day, hour, minute, second, micros uint64, digits int) ([]byte, error) {
	if month > 12 || day > 31 || hour > 23 || minute > 59 || second > 59 || micros > 999999 || year > 9999 {
		return dst, errBadTime
	}
	dst = appendDate(dst, year, month, day)
	if month == 0 || day == 0 {
		dst = append(dst, ' ')
	} else {
		dst = append(dst, 'T')
	}
	return appendFraction(appendClock(dst, hour, minute, second), micros, digits), nil
}

// appendDate3 renders DATE: three bytes, day 5 bits, month 4, year 15.
func appendDate3(dst, p []byte) ([]byte, error) {
	v := binlog.UintLE(p)
	year, month, day := v>>9, v>>5&15, v&31
	if month > 12 || year > 9999 {
		return dst, errBadTime
	}
	return appendDate(dst, year, month, day), nil
}

// fractionMicros reads the fraction of DATETIME2 and TIMESTAMP2: as many bytes as two digits each need.
func fractionMicros(p []byte) uint64 {
	v := binlog.UintBE(p)
	switch len(p) {
	case 1:
		return v * 10000
	case 2:
		return v * 100
	default:
		return v
	}
}

// appendDateTime2 renders DATETIME2 (MySQL source, my_datetime_packed_from_binary).
func appendDateTime2(dst, p []byte, digits int) ([]byte, error) {
	v := binlog.UintBE(p[:5])
	if v < 0x8000000000 {
		return dst, errBadTime
	}
	v -= 0x8000000000
	ym := v >> 22
	return appendDateTime(dst, ym/13, ym%13, v>>17&31, v>>12&31, v>>6&63, v&63, fractionMicros(p[5:]), digits)
}

// appendDateTimeOld renders DATETIME as it was before MySQL 5.6: the digits YYYYMMDDhhmmss as one number.
func appendDateTimeOld(dst, p []byte) ([]byte, error) {
	v := binary.LittleEndian.Uint64(p)
	d, t := v/1000000, v%1000000
	return appendDateTime(dst, d/10000, d/100%100, d%100, t/10000, t/100%100, t%100, 0, 0)
}

// appendTimestamp renders an instant in UTC. Second 0 is MySQL's zero timestamp.
func appendTimestamp(dst []byte, seconds, micros uint64, digits int) ([]byte, error) {
	if micros > 999999 {
		return dst, errBadTime
	}
	if seconds == 0 && micros == 0 {
		return appendFraction(append(dst, "0000-00-00 00:00:00"...), 0, digits), nil
	}
	t := time.Unix(int64(seconds), 0).UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	dst, err := appendDateTime(dst, uint64(year), uint64(month), uint64(day), uint64(hour), uint64(minute), uint64(second),
		micros, digits)
	return append(dst, 'Z'), err
}

// appendTime2 renders TIME2 (MySQL source, my_time_packed_from_binary).
func appendTime2(dst, p []byte, digits int) ([]byte, error) {
	var packed int64
	switch len(p) {
	case 3:
		packed = (int64(binlog.UintBE(p)) - 0x800000) << 24
	case 4:
		whole, frac := int64(binlog.UintBE(p[:3]))-0x800000, int64(p[3])
		if whole < 0 && frac != 0 {
			whole++
			frac -= 0x100
		}
		packed = whole<<24 + frac*10000
	case 5:
		whole, frac := int64(binlog.UintBE(p[:3]))-0x800000, int64(binlog.UintBE(p[3:]))
		if whole < 0 && frac != 0 {
			whole++
			frac -= 0x10000
		}
		packed = whole<<24 + frac*100
	default:
		packed = int64(binlog.UintBE(p)) - 0x800000000000
	}
	return appendPackedTime(dst, packed, digits)
}

// appendPackedTime renders a time as MySQL packs it: hours, minutes and seconds above 24 bits of microseconds.
func appendPackedTime(dst []byte, packed int64, digits int) ([]byte, error) {
	if packed < 0 {
		dst = append(dst, '-')
		packed = -packed
	}
	hms, micros := uint64(packed)>>24, uint64(packed)&0xffffff
	hour, minute, second := hms>>12&0x3ff, hms>>6&63, hms&63
	if minute > 59 || second > 59 || micros > 999999 {
		return dst, errBadTime
	}
	return appendFraction(appendClock(dst, hour, minute, second), micros, digits), nil
}

// appendTimeOld renders TIME as it was before MySQL 5.6: the digits hhmmss as one signed number.
func appendTimeOld(dst, p []byte) ([]byte, error) {
	v := int64(binlog.UintLE(p))
	if v >= 1<<23 {
		v -= 1 << 24
	}
	if v < 0 {
		dst = append(dst, '-')
		v = -v
	}
	n := uint64(v)
	if n/100%100 > 59 || n%100 > 59 {
		return dst, errBadTime
	}
	return appendClock(dst, n/10000, n/100%100, n%100), nil
}
