package postgrescdc

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
)

// BenchmarkStream reads one transaction of a real server, decoding included.
func BenchmarkStream(b *testing.B) {
	d := newDatabase(b)
	d.exec("CREATE TABLE orders (id bigint PRIMARY KEY, customer int, email text, total numeric(10,2), paid bool, created timestamptz, note text)")
	r, _ := d.source("")
	s := d.run(r, checkpoint.Token{})
	const n = 200_000
	b.ReportAllocs()
	for i := range b.N {
		b.StopTimer()
		d.exec(fmt.Sprintf("INSERT INTO orders SELECT g + %d, 4711, 'someone@example.com', 12.5, true, now(), repeat('note ', 16) "+
			"FROM generate_series(1, %d) g", i*n, n))
		b.StartTimer()
		segments, rows, began, cpu := 0, 0, time.Time{}, time.Duration(0)
		for rows < n {
			seg := s.next()
			if seg.Rows == nil {
				continue
			}
			if rows == 0 {
				began, cpu = time.Now(), cpuTime(b)
			}
			batch, err := seg.Rows.Decode(b.Context(), nil)
			require.NoError(b, err)
			rows += len(batch)
			segments++
		}
		b.ReportMetric(float64(n)/time.Since(began).Seconds(), "rows/s")
		b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/n, "cpu-ns/row")
		b.ReportMetric(float64(n)/float64(segments), "rows/segment")
	}
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
