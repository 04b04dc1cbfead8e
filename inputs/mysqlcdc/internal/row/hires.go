package row

import (
	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
)

// Times with fractions as MariaDB stores them under mysql56_temporal_format=OFF (MariaDB source, Field_time_hires and its siblings): one
// big-endian number of units of the last digit.

// unit is how many microseconds the last of so many digits is.
func unit(digits int) uint64 {
	u := uint64(1)
	for range 6 - min(digits, 6) {
		u *= 10
	}
	return u
}

// appendDateTimeHires renders a DATETIME that has digits after the second.
func appendDateTimeHires(dst, p []byte, digits int) ([]byte, error) {
	u := unit(digits)
	v, perSecond := binlog.UintBE(p), 1000000/u
	micros, v := v%perSecond*u, v/perSecond
	second, v := v%60, v/60
	minute, v := v%60, v/60
	hour, v := v%24, v/24
	day, v := v%32, v/32
	return appendDateTime(dst, v/13, v%13, day, hour, minute, second, micros, digits)
}

// appendTimestampHires renders a TIMESTAMP that has digits after the second.
func appendTimestampHires(dst, p []byte, digits int) ([]byte, error) {
	return appendTimestamp(dst, binlog.UintBE(p[:4]), binlog.UintBE(p[4:])*unit(digits), digits)
}

// appendTimeHires renders a TIME that has digits after the second. The number is that of the time after the least one that there can be.
func appendTimeHires(dst, p []byte, digits int) ([]byte, error) {
	const zero = 838*3600 + 59*60 + 59 + 1 // seconds
	u := unit(digits)
	v := int64(binlog.UintBE(p)) - int64(zero*(1000000/u))
	if v < 0 {
		dst = append(dst, '-')
		v = -v
	}
	micros := uint64(v) * u
	seconds := micros / 1000000
	if seconds >= zero {
		return dst, errBadTime
	}
	return appendFraction(appendClock(dst, seconds/3600, seconds/60%60, seconds%60), micros%1000000, digits), nil
}

// appendOld renders a time in the form before MySQL 5.6; those with digits after the second are MariaDB's.
func (c *Column) appendOld(dst, p []byte) ([]byte, error) {
	switch digits := int(c.Meta); {
	case c.Type == mysql.MYSQL_TYPE_DATETIME && digits == 0:
		return appendDateTimeOld(dst, p)
	case c.Type == mysql.MYSQL_TYPE_DATETIME:
		return appendDateTimeHires(dst, p, digits)
	case c.Type == mysql.MYSQL_TYPE_TIMESTAMP && digits == 0:
		return appendTimestamp(dst, binlog.UintLE(p), 0, 0)
	case c.Type == mysql.MYSQL_TYPE_TIMESTAMP:
		return appendTimestampHires(dst, p, digits)
	case digits == 0:
		return appendTimeOld(dst, p)
	default:
		return appendTimeHires(dst, p, digits)
	}
}
