package main

import (
	"bytes"
	"fmt"
	"html"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/pprof/profile"
)

// frame is a function as called by one chain of callers.
type frame struct {
	name     string
	value    int64 // CPU time, of what it calls included
	children map[string]*frame
}

func (f *frame) child(name string) *frame {
	c := f.children[name]
	if c == nil {
		c = &frame{name: name, children: map[string]*frame{}}
		f.children[name] = c
	}
	return c
}

// depth is how many frames lie on each other, those that are too narrow to see left out.
func (f *frame) depth(least int64) int {
	deepest := 0
	for _, c := range f.children {
		if c.value >= least {
			deepest = max(deepest, c.depth(least))
		}
	}
	return deepest + 1
}

// parseFlame reads a CPU profile.
func parseFlame(data []byte) (*frame, error) {
	p, err := profile.ParseData(data)
	if err != nil {
		return nil, fmt.Errorf("reading a profile: %w", err)
	}
	root := &frame{name: "all", children: map[string]*frame{}}
	for _, s := range p.Sample {
		value := s.Value[len(s.Value)-1]
		root.value += value
		at := root
		for _, location := range slices.Backward(s.Location) {
			for _, line := range slices.Backward(location.Line) { // the last is the caller of those inlined into it
				if line.Function == nil {
					continue
				}
				at = at.child(line.Function.Name)
				at.value += value
			}
		}
	}
	return root, nil
}

// The measures of a flame graph, in pixels.
const (
	flameWidth = 1200
	flameRow   = 17
	flameLeast = 0.8 // narrower frames are left out
	flameChar  = 6.2
)

// flameKinds give each frame the colour of whose it is; the first that the name begins with counts.
func flameKinds() []struct{ prefix, colour, meaning string } {
	return []struct{ prefix, colour, meaning string }{
		{"github.com/deltaforge/deltaforge", "#f4a259", "DeltaForge"},
		{"github.com/redpanda-data/benthos", "#8cb4d9", "the engine"},
		{"runtime", "#d0d0d0", "Go's runtime"},
		{"internal/runtime", "#d0d0d0", ""},
		{"", "#b5d99c", "libraries"},
	}
}

// drawFlame draws the profile as a flame graph in SVG: the width of a frame is its CPU time, what it calls is below it.
func drawFlame(title string, root *frame) []byte {
	least := int64(float64(root.value) * flameLeast / flameWidth)
	height := (root.depth(least) + 3) * flameRow
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="monospace" font-size="10.5">`+"\n", flameWidth, height)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/><text x="4" y="13" font-size="13">%s</text>`+"\n", html.EscapeString(title))
	x := 560
	for _, k := range flameKinds() {
		if k.meaning != "" {
			fmt.Fprintf(&b, `<rect x="%d" y="3" width="12" height="12" fill="%s"/><text x="%d" y="13">%s</text>`+"\n", x, k.colour, x+16, k.meaning)
			x += 130
		}
	}
	drawFrame(&b, root, root.value, least, 0, 0)
	b.WriteString("</svg>\n")
	return b.Bytes()
}

func drawFrame(b *bytes.Buffer, f *frame, total, least, from int64, row int) {
	scale := float64(flameWidth) / float64(max(total, 1))
	x, width, y := float64(from)*scale, float64(f.value)*scale, (row+2)*flameRow
	colour := ""
	for _, k := range flameKinds() {
		if strings.HasPrefix(f.name, k.prefix) {
			colour = k.colour
			break
		}
	}
	fmt.Fprintf(b, `<g><title>%s: %.1f %%</title><rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s" stroke="white" stroke-width="0.5"/>`,
		html.EscapeString(f.name), 100*float64(f.value)/float64(max(total, 1)), x, y, width, flameRow-1, colour)
	if short, room := shortName(f.name), int((width-6)/flameChar); room >= 4 {
		if len(short) > room {
			short = short[:room-1] + "…"
		}
		fmt.Fprintf(b, `<text x="%.1f" y="%d">%s</text>`, x+3, y+flameRow-5, html.EscapeString(short))
	}
	b.WriteString("</g>\n")
	for _, name := range slices.Sorted(maps.Keys(f.children)) {
		c := f.children[name]
		if c.value >= least {
			drawFrame(b, c, total, least, from, row+1)
		}
		from += c.value
	}
}

// shortName leaves out where a package comes from and type arguments.
func shortName(name string) string {
	if i := strings.IndexByte(name, '['); i >= 0 {
		name = name[:i]
	}
	return name[strings.LastIndexByte(name, '/')+1:]
}

// portable returns a profile without the folders of this machine, so that it can be committed.
func portable(data []byte) ([]byte, error) {
	p, err := profile.ParseData(data)
	if err != nil {
		return nil, fmt.Errorf("reading a profile: %w", err)
	}
	for _, m := range p.Mapping {
		m.File = filepath.Base(m.File)
	}
	for _, f := range p.Function {
		f.Filename = filepath.Base(f.Filename)
	}
	var b bytes.Buffer
	err = p.Write(&b)
	return b.Bytes(), err
}

// writeFlame draws a profile into a file.
func writeFlame(path, title string, data []byte) error {
	root, err := parseFlame(data)
	if err != nil {
		return err
	}
	return os.WriteFile(path, drawFlame(title, root), 0o644)
}
