package demo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// screen is the terminal, or whatever the output goes to. Text scrolls; the status stays below it and is refreshed in place
// on a terminal, and is one more line elsewhere. It is used by one goroutine.
type screen struct {
	out      io.Writer
	terminal bool
	height   int // lines of the status that is on the terminal
	err      error
}

// The escape sequences that every terminal of the last forty years has (ECMA-48; DEC private mode 7 is line wrapping).
const (
	bold      = "\x1b[1m"
	dim       = "\x1b[2m"
	green     = "\x1b[32m"
	red       = "\x1b[31m"
	plain     = "\x1b[0m"
	clearDown = "\x1b[J" // from the cursor to the end
	wrapOff   = "\x1b[?7l"
	wrapOn    = "\x1b[?7h"
)

// style puts text in a style, on a terminal.
func (s *screen) style(style, text string) string {
	if !s.terminal {
		return text
	}
	return style + text + plain
}

// write sends text in one piece, so that a terminal never shows half a status. The first error is kept.
func (s *screen) write(text string) {
	if _, err := io.WriteString(s.out, text); s.err == nil {
		s.err = err
	}
}

// erase returns what removes the status from the terminal.
func (s *screen) erase() string {
	if s.height == 0 {
		return ""
	}
	up := fmt.Sprintf("\r\x1b[%dA%s", s.height, clearDown)
	s.height = 0
	return up
}

// printf prints text above the status, which comes back with the next refresh.
func (s *screen) printf(format string, args ...any) {
	s.write(s.erase() + fmt.Sprintf(format, args...))
}

// status is what changes all the time.
type status struct {
	elapsed            time.Duration
	written, received  tally
	writeRate, getRate float64  // rows a second
	lag, delivered     *float64 // of the metrics page; nil when it does not say
	position           string
}

// show refreshes the status.
func (s *screen) show(st *status) {
	if !s.terminal {
		s.write(fmt.Sprintf("%s  written %s (%.0f/s)  delivered %s (%.0f/s)  lag %s  position %s\n", clock(st.elapsed),
			thousands(st.written.total()), st.writeRate, thousands(st.received.total()), st.getRate, seconds(st.lag), orDash(st.position)))
		return
	}
	var b strings.Builder
	b.WriteString(s.erase())
	b.WriteString(wrapOff)
	fmt.Fprintf(&b, "\n  %s%10s%10s%10s%10s%12s%10s\n", s.style(bold, fmt.Sprintf("%-18s", clock(st.elapsed))),
		"loaded", "inserts", "updates", "deletes", "total", "a second")
	line := func(name string, t tally, rate float64) {
		fmt.Fprintf(&b, "  %-18s%10s%10s%10s%10s%s%10.0f\n", name, thousands(t.ofOp(opLoad)), thousands(t.ofOp(opInsert)), thousands(t.ofOp(opUpdate)),
			thousands(t.ofOp(opDelete)), s.style(bold, fmt.Sprintf("%12s", thousands(t.total()))), rate)
	}
	line("rows written", st.written, st.writeRate)
	line("events delivered", st.received, st.getRate)
	fmt.Fprintf(&b, "  %-18s%10s   %s\n", "lag", seconds(st.lag), s.style(dim, seriesLag))
	fmt.Fprintf(&b, "  %-18s%10s   %s\n", "acknowledged", count(st.delivered), s.style(dim, seriesDelivered))
	fmt.Fprintf(&b, "  %-18s%10s\n", "position", orDash(st.position))
	b.WriteString(wrapOn)
	s.height = 7
	s.write(b.String())
}

// endStatus leaves the status where it is and goes on below it.
func (s *screen) endStatus() { s.height = 0 }

// interrupted starts a new line: the terminal has echoed ^C.
func (s *screen) interrupted() {
	if s.terminal {
		s.write("\r")
	}
}

// sample prints an event.
func (s *screen) sample(event []byte) {
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, event, "  ", "  "); err != nil {
		pretty.Write(event)
	}
	s.printf("\n%s\n\n  %s\n\n", s.style(bold, "The first event:"), &pretty)
}

// summary prints what was written and what was received, by table.
func (s *screen) summary(tables []string, written, received tally) {
	s.printf("\n  %-12s%10s%10s%10s%10s%12s\n", "", "loaded", "inserts", "updates", "deletes", "total")
	for _, table := range tables {
		for _, side := range []struct {
			name string
			rows tally
		}{{"written", written}, {"received", received}} {
			total, heading := 0, table
			if side.name == "received" {
				heading = ""
			}
			s.printf("  %-12s", heading)
			for _, o := range ops() {
				n := side.rows[tallyKey{table, o}]
				total += n
				s.printf("%10s", thousands(n))
			}
			s.printf("%12s  %s\n", thousands(total), s.style(dim, side.name))
		}
	}
	s.printf("\n")
}

// finish returns the first error of writing to the output.
func (s *screen) finish() error {
	if s.err == nil {
		return nil
	}
	return errors.Join(errors.New("writing to the terminal"), s.err)
}

// thousands writes 1234567 as 1,234,567.
func thousands(n int) string {
	digits := strconv.Itoa(n)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

func seconds(v *float64) string {
	if v == nil {
		return "-"
	}
	return strconv.FormatFloat(*v, 'f', 1, 64) + " s"
}

func count(v *float64) string {
	if v == nil {
		return "-"
	}
	return thousands(int(*v))
}

func clock(d time.Duration) string {
	return fmt.Sprintf("%d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// indent puts two spaces before every line that is not empty.
func indent(text string) string {
	lines := strings.SplitAfter(text, "\n")
	for i, line := range lines {
		if strings.TrimSpace(line) != "" {
			lines[i] = "  " + line
		}
	}
	return strings.Join(lines, "")
}
