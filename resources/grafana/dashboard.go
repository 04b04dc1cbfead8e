// Package grafana describes the dashboard. deltaforge.json is made from it: `go generate ./resources/...` writes the file, and a
// test compares the two.
package grafana

//go:generate go test .. -run ^TestDashboardIsGenerated$ -update

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// Row is a heading and the panels under it.
type Row struct {
	Title  string
	Panels []Panel
}

// Panel is one graph, number or table.
type Panel struct {
	Title   string
	Help    string // what it says, and what to do when it is bad
	Unit    string // Grafana's name of the unit
	Kind    string // Grafana's name of the kind; "" is timeseries
	Width   int    // of 24; 0 is 8
	Queries []Query
	// Red is the value from which the panel is red; 0 for none. Below Yellow, which needs Red, it is green.
	Yellow, Red float64
	Max         float64 // upper end of the axis, when it is fixed
	Stack       bool
	Mappings    map[string]string // value: text
}

// Query is a PromQL expression. Legend names each line, with Grafana's {{label}}.
type Query struct {
	Expr   string
	Legend string
}

// Expressions returns the panel's queries as Grafana has them.
func (p Panel) Expressions() []string {
	all := make([]string, len(p.Queries))
	for i, q := range p.Queries {
		all[i] = matchers().Replace(q.Expr)
	}
	return all
}

// Variable is a choice at the top of the dashboard.
type Variable struct {
	Name  string
	Query string
}

// matchers are what expressions abbreviate: @process, @pipeline, @source, @processor, @sink.
func matchers() *strings.Replacer {
	const (
		process  = `instance=~"$instance"`
		pipeline = process + `, tenant=~"$tenant", pipeline=~"$pipeline"`
	)
	return strings.NewReplacer("@pipeline", pipeline, "@processor", pipeline, "@process", process,
		"@source", pipeline+`, source=~"$source"`, "@sink", pipeline+`, sink=~"$sink"`)
}

// Variables returns the choices, each narrowed by those before it.
func Variables() []Variable {
	const process, tenant = `{instance=~"$instance"`, `, tenant=~"$tenant"`
	return []Variable{
		{"instance", "label_values(deltaforge_build_info, instance)"},
		{"tenant", "label_values(deltaforge_source_events_total" + process + "}, tenant)"},
		{"pipeline", "label_values(deltaforge_source_events_total" + process + tenant + "}, pipeline)"},
		{"source", "label_values(deltaforge_source_events_total" + process + tenant + `, pipeline=~"$pipeline"}, source)`},
		{"sink", "label_values(deltaforge_sink_events_total" + process + tenant + `, pipeline=~"$pipeline"}, sink)`},
	}
}

// JSON returns the dashboard as Grafana imports it.
func JSON() ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(dashboard()); err != nil {
		return nil, fmt.Errorf("encoding the dashboard: %w", err)
	}
	return buf.Bytes(), nil
}

type object map[string]any

func dashboard() object {
	return object{
		"uid": "deltaforge", "title": "DeltaForge", "tags": []string{"deltaforge"},
		"description":   "Every pipeline of a DeltaForge fleet, from the database's log to the acknowledged delivery.",
		"schemaVersion": 39, "editable": true, "graphTooltip": 1, "refresh": "30s", "timezone": "",
		"time":       object{"from": "now-6h", "to": "now"},
		"templating": object{"list": variables()},
		"annotations": object{"list": []object{{
			"name": "Firing alerts", "datasource": datasource(), "enable": true, "iconColor": "red",
			"expr":        matchers().Replace(`ALERTS{alertname=~"DeltaForge.+", alertstate="firing", @process}`),
			"titleFormat": "{{alertname}}", "textFormat": "{{pipeline}}", "step": "60s",
		}}},
		"links": []object{{
			"type": "link", "title": "Runbook", "targetBlank": true,
			"url": "https://github.com/deltaforge/deltaforge/blob/main/docs/operations.md",
		}},
		"panels": panels(),
	}
}

func datasource() object { return object{"type": "prometheus", "uid": "${datasource}"} }

func variables() []object {
	list := []object{{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}}
	for _, v := range Variables() {
		list = append(list, object{
			"name": v.Name, "label": strings.ToUpper(v.Name[:1]) + v.Name[1:], "type": "query", "datasource": datasource(),
			"query":      object{"query": v.Query, "refId": v.Name},
			"definition": v.Query,
			"multi":      true, "includeAll": true, "allValue": ".*", "sort": 1,
			"refresh": 2, // whenever the time range changes: pipelines come and go
			"current": object{"text": "All", "value": "$__all"},
		})
	}
	return list
}

const (
	gridWidth   = 24
	panelHeight = 8
	statHeight  = 4
)

// panels lays the rows out from left to right, top to bottom.
func panels() []object {
	var list []object
	id, y := 0, 0
	for _, row := range Rows() {
		id++
		list = append(list, object{
			"id": id, "type": "row", "title": row.Title, "collapsed": false, "panels": []object{},
			"gridPos": object{"h": 1, "w": gridWidth, "x": 0, "y": y},
		})
		y++
		x, height := 0, 0
		for _, p := range row.Panels {
			id++
			w, h := p.size()
			if x+w > gridWidth {
				x, y, height = 0, y+height, 0
			}
			list = append(list, p.object(id, object{"h": h, "w": w, "x": x, "y": y}))
			x, height = x+w, max(height, h)
		}
		y += height
	}
	return list
}

func (p Panel) size() (w, h int) {
	w, h = p.Width, panelHeight
	if w == 0 {
		w = 8
	}
	if p.Kind == "stat" {
		h = statHeight
	}
	return w, h
}

func (p Panel) object(id int, pos object) object {
	kind := p.Kind
	if kind == "" {
		kind = "timeseries"
	}
	defaults := object{"unit": p.Unit, "min": 0, "thresholds": p.thresholds(), "color": object{"mode": p.colors(kind)}}
	if p.Max != 0 {
		defaults["max"] = p.Max
	}
	if p.Mappings != nil {
		delete(defaults, "min")
		options := object{}
		for value, text := range p.Mappings {
			options[value] = object{"text": text}
		}
		defaults["mappings"] = []object{{"type": "value", "options": options}}
	}
	options := object{}
	switch kind {
	case "timeseries":
		defaults["custom"] = p.lines()
		options = object{
			"legend":  object{"displayMode": "table", "placement": "bottom", "showLegend": true, "calcs": []string{"lastNotNull", "max"}},
			"tooltip": object{"mode": "multi", "sort": "desc"},
		}
	case "stat", "bargauge":
		options = object{"reduceOptions": object{"calcs": []string{"lastNotNull"}}, "colorMode": "value"}
	}
	return object{
		"id": id, "type": kind, "title": p.Title, "description": p.Help, "gridPos": pos, "datasource": datasource(),
		"targets": p.targets(kind), "fieldConfig": object{"defaults": defaults, "overrides": []object{}}, "options": options,
	}
}

func (p Panel) colors(kind string) string {
	if kind == "timeseries" || p.Red == 0 && p.Mappings == nil {
		return "palette-classic"
	}
	return "thresholds"
}

func (p Panel) lines() object {
	custom := object{
		"lineWidth": 1, "fillOpacity": 8, "showPoints": "never", "spanNulls": false,
		"thresholdsStyle": object{"mode": "off"}, "stacking": object{"mode": "none"},
	}
	if p.Stack {
		custom["stacking"], custom["fillOpacity"] = object{"mode": "normal"}, 25
	}
	if p.Red != 0 {
		custom["thresholdsStyle"] = object{"mode": "dashed"}
	}
	return custom
}

func (p Panel) thresholds() object {
	if p.Mappings != nil {
		return object{"mode": "absolute", "steps": []object{
			{"color": "red", "value": nil}, {"color": "blue", "value": 0}, {"color": "green", "value": 1},
		}}
	}
	steps := []object{{"color": "green", "value": nil}}
	if p.Yellow != 0 {
		steps = append(steps, object{"color": "yellow", "value": p.Yellow})
	}
	if p.Red != 0 {
		steps = append(steps, object{"color": "red", "value": p.Red})
	}
	return object{"mode": "absolute", "steps": steps}
}

func (p Panel) targets(kind string) []object {
	list := make([]object, len(p.Queries))
	for i, q := range p.Queries {
		list[i] = object{
			"refId": string(rune('A' + i)), "datasource": datasource(), "editorMode": "code",
			"expr": matchers().Replace(q.Expr), "legendFormat": q.Legend,
			"instant": kind == "table" || kind == "bargauge", "range": kind != "table" && kind != "bargauge",
		}
		if kind == "table" {
			list[i]["format"] = "table"
		}
	}
	return list
}
