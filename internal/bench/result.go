package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
)

// result is one line of the table and one object of bench.json.
type result struct {
	Case      string  `json:"case"`
	Unit      string  `json:"unit"`
	Value     float64 `json:"value"`
	Reference float64 `json:"reference"`
	Ratio     float64 `json:"ratio"`
	Goal      string  `json:"goal"`
	// CPU is user and system time of the measured process, from its start.
	CPU          float64 `json:"cpu_seconds"`
	ReferenceCPU float64 `json:"reference_cpu_seconds"`
	RSS          float64 `json:"rss_mb"`
	Runs         int     `json:"runs"`

	met bool
}

// sample is one measurement.
type sample struct {
	value float64
	cpu   float64 // seconds
	rss   float64 // MB, peak
}

// median returns the median of each field.
func median(samples []sample) sample {
	pick := func(get func(sample) float64) float64 {
		v := make([]float64, len(samples))
		for i, s := range samples {
			v[i] = get(s)
		}
		return medianOf(v)
	}
	return sample{
		value: pick(func(s sample) float64 { return s.value }), cpu: pick(func(s sample) float64 { return s.cpu }),
		rss: pick(func(s sample) float64 { return s.rss }),
	}
}

func medianOf(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// goal is what a case has to reach.
type goal struct {
	text string
	met  func(r result) bool
}

// ratioAtLeast is the goal of most cases. Equal CPU is asked for too where cpu says so.
func ratioAtLeast(least float64) goal {
	return goal{fmt.Sprintf("ratio >= %g", least), func(r result) bool { return r.Ratio >= least }}
}

func (g goal) and(more goal) goal {
	return goal{g.text + ", " + more.text, func(r result) bool { return g.met(r) && more.met(r) }}
}

func noMoreCPU() goal {
	return goal{"cpu <= reference", func(r result) bool { return r.CPU <= r.ReferenceCPU }}
}

func rssUnder(mb float64) goal {
	return goal{fmt.Sprintf("rss < %g MB", mb), func(r result) bool { return r.RSS < mb }}
}

// none is the goal of a line that is there for information.
func none() goal { return goal{"", func(result) bool { return true }} }

// report adds a line: the medians of ours and of the reference.
func (s *suite) report(name, unit string, ours, reference []sample, g goal) {
	m, ref := median(ours), median(reference)
	r := result{
		Case: name, Unit: unit, Value: round(m.value), Reference: round(ref.value), CPU: round(m.cpu), ReferenceCPU: round(ref.cpu),
		RSS: round(m.rss), Runs: len(ours), Goal: g.text,
	}
	if ref.value != 0 {
		r.Ratio = round(m.value / ref.value)
	}
	r.met = g.met(r)
	s.results = append(s.results, r)
	s.rates[name] = m.value
	printTable(os.Stderr, s.results[len(s.results)-1:])
}

// round keeps three decimals, more would be noise.
func round(v float64) float64 {
	if v >= 1000 {
		return float64(int64(v + 0.5))
	}
	return float64(int64(v*1000+0.5)) / 1000
}

func writeResults(path string, results []result) error {
	if results == nil {
		results = []result{}
	}
	text, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing the results: %w", err)
	}
	return nil
}

func printTable(w io.Writer, results []result) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "case\tvalue\tunit\treference\tratio\tcpu s\tref cpu s\trss MB\truns\tgoal\t\t")
	for _, r := range results {
		verdict := "met"
		switch {
		case r.Goal == "":
			verdict = ""
		case !r.met:
			verdict = "MISSED"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t\n", r.Case, number(r.Value), r.Unit, number(r.Reference), number(r.Ratio),
			number(r.CPU), number(r.ReferenceCPU), number(r.RSS), r.Runs, r.Goal, verdict)
	}
	_ = t.Flush() // the terminal is all there is to tell about it
}

func number(v float64) string {
	switch {
	case v == 0:
		return "-"
	case v >= 1000:
		return fmt.Sprintf("%.0f", v)
	default:
		return fmt.Sprintf("%.3g", v)
	}
}
