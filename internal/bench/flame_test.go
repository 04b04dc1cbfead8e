package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"runtime/pprof"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/stretchr/testify/require"
)

// A profile of three stacks becomes a tree whose frames have the time of what they call.
func TestFlame(t *testing.T) {
	functions := map[string]*profile.Function{}
	p := &profile.Profile{SampleType: []*profile.ValueType{{Type: "cpu", Unit: "nanoseconds"}}}
	stack := func(value int64, leafFirst ...string) {
		s := &profile.Sample{Value: []int64{value}}
		for _, name := range leafFirst {
			if functions[name] == nil {
				functions[name] = &profile.Function{ID: uint64(len(functions) + 1), Name: name}
				p.Function = append(p.Function, functions[name])
			}
			l := &profile.Location{ID: uint64(len(p.Location) + 1), Line: []profile.Line{{Function: functions[name]}}}
			p.Location = append(p.Location, l)
			s.Location = append(s.Location, l)
		}
		p.Sample = append(p.Sample, s)
	}
	stack(30, "runtime.mallocgc", "github.com/deltaforge/deltaforge/internal/x.(*T).decode[go.shape.int]", "main.main")
	stack(50, "github.com/deltaforge/deltaforge/internal/x.(*T).decode[go.shape.int]", "main.main")
	stack(20, "runtime.gc<Worker>")
	var data bytes.Buffer
	require.NoError(t, p.Write(&data))
	root, err := parseFlame(data.Bytes())
	require.NoError(t, err)
	require.EqualValues(t, 100, root.value)
	require.EqualValues(t, 80, root.children["main.main"].value)
	require.Equal(t, 4, root.depth(1))

	svg := drawFlame("a <title>", root)
	d := xml.NewDecoder(bytes.NewReader(svg))
	titles := 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err, "%s", svg)
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "title" {
			titles++
		}
	}
	require.Equal(t, 5, titles)
	require.Contains(t, string(svg), "<title>main.main: 80.0 %</title>")
	require.Contains(t, string(svg), ">x.(*T).decode<")
	require.Contains(t, string(svg), "runtime.gc&lt;Worker&gt;: 20.0 %")

	_, err = parseFlame([]byte("no profile"))
	require.Error(t, err)
}

// What Go writes can be read.
func TestFlameOfThisProcess(t *testing.T) {
	var data bytes.Buffer
	require.NoError(t, pprof.StartCPUProfile(&data))
	for end := time.Now().Add(50 * time.Millisecond); time.Now().Before(end); {
		_ = bytes.Repeat([]byte("x"), 1000)
	}
	pprof.StopCPUProfile()
	clean, err := portable(data.Bytes())
	require.NoError(t, err)
	_, err = parseFlame(clean)
	require.NoError(t, err)
	p, err := profile.ParseData(clean)
	require.NoError(t, err)
	require.NotContains(t, p.String(), "/internal/bench/", "no folder of a machine")
}
