// Package openapi describes the routes of the control plane in an OpenAPI document.
package openapi

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Route is one method of one path.
type Route struct {
	Method, Path, Summary string
	Open                  bool   // answered without credentials
	Input                 string // what the body is; "" for none
	Statuses              []int  // what it may answer besides what every route may
}

// AllStatuses returns what a route may answer.
func AllStatuses(rt Route) []int {
	statuses := []int{
		http.StatusBadRequest, http.StatusForbidden, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge,
		http.StatusInternalServerError,
	}
	if !rt.Open {
		statuses = append(statuses, http.StatusUnauthorized)
	}
	return slices.Concat(rt.Statuses, statuses)
}

// PathVariable matches a variable in a path.
var PathVariable = regexp.MustCompile(`\{(\w+)\}`)

// Document returns the document of all routes, for a JSON encoder.
func Document(routes []Route) map[string]any {
	paths := map[string]map[string]any{}
	for _, rt := range routes {
		if paths[rt.Path] == nil {
			paths[rt.Path] = map[string]any{}
		}
		paths[rt.Path][strings.ToLower(rt.Method)] = operation(rt)
	}
	return map[string]any{
		"openapi": "3.1.0",
		"info": map[string]any{
			"title": "DeltaForge control plane", "version": "1",
			"description": "Pipelines, their health and their lifecycle. Everything but the routes without security needs a " +
				"bearer token or basic authentication, or, where the process has no credentials, a caller on its machine.",
		},
		"paths": paths,
		"components": map[string]any{"securitySchemes": map[string]any{
			"token": map[string]any{"type": "http", "scheme": "bearer"},
			"user":  map[string]any{"type": "http", "scheme": "basic"},
		}},
	}
}

// operation describes one route.
func operation(rt Route) map[string]any {
	responses := map[string]any{}
	for _, status := range AllStatuses(rt) {
		responses[strconv.Itoa(status)] = map[string]any{"description": http.StatusText(status)}
	}
	op := map[string]any{"summary": rt.Summary, "responses": responses, "security": []any{}}
	if !rt.Open {
		op["security"] = []any{map[string]any{"token": []any{}}, map[string]any{"user": []any{}}}
	}
	parameters := []any{}
	text := map[string]any{"type": "string"}
	for _, m := range PathVariable.FindAllStringSubmatch(rt.Path, -1) {
		parameters = append(parameters, map[string]any{"name": m[1], "in": "path", "required": true, "schema": text})
	}
	if strings.Contains(rt.Path, "{id}") && rt.Method != http.MethodGet && strings.HasPrefix(rt.Path, "/streams") {
		parameters = append(parameters, map[string]any{
			"name": "timeout", "in": "query", "schema": text,
			"description": "How long the pipeline may take to stop, such as 10s",
		})
	}
	if rt.Path == "/streams/{id}" && rt.Method == http.MethodDelete {
		parameters = append(parameters, map[string]any{
			"name": "drop_slot", "in": "query", "schema": map[string]any{"type": "boolean"},
			"description": "Drop the replication slots and publications that its sources have made",
		})
	}
	if rt.Input != "" {
		op["requestBody"] = map[string]any{
			"description": rt.Input, "required": true,
			"content": map[string]any{"application/yaml": map[string]any{}, "application/json": map[string]any{}},
		}
		parameters = append(parameters, map[string]any{
			"name": "chilled", "in": "query", "schema": map[string]any{"type": "boolean"},
			"description": "Accept a configuration with lint errors",
		})
	}
	if len(parameters) > 0 {
		op["parameters"] = parameters
	}
	return op
}
