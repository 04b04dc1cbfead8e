package control

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// commonStatuses are what any route may answer besides its own.
func commonStatuses(rt route) []int {
	statuses := []int{
		http.StatusBadRequest, http.StatusForbidden, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge,
		http.StatusInternalServerError,
	}
	if !rt.open {
		statuses = append(statuses, http.StatusUnauthorized)
	}
	return statuses
}

var pathVariable = regexp.MustCompile(`\{(\w+)\}`)

func (s *Server) openAPI(*http.Request, []byte) *reply {
	paths := map[string]map[string]any{}
	for _, rt := range s.routes() {
		if paths[rt.path] == nil {
			paths[rt.path] = map[string]any{}
		}
		paths[rt.path][strings.ToLower(rt.method)] = operation(rt)
	}
	return jsonReply(http.StatusOK, map[string]any{
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
	})
}

// operation describes one route.
func operation(rt route) map[string]any {
	responses := map[string]any{}
	for _, status := range slices.Concat(rt.statuses, commonStatuses(rt)) {
		responses[strconv.Itoa(status)] = map[string]any{"description": http.StatusText(status)}
	}
	op := map[string]any{"summary": rt.summary, "responses": responses, "security": []any{}}
	if !rt.open {
		op["security"] = []any{map[string]any{"token": []any{}}, map[string]any{"user": []any{}}}
	}
	parameters := []any{}
	text := map[string]any{"type": "string"}
	for _, m := range pathVariable.FindAllStringSubmatch(rt.path, -1) {
		parameters = append(parameters, map[string]any{"name": m[1], "in": "path", "required": true, "schema": text})
	}
	if rt.takesID() && rt.method != http.MethodGet && strings.HasPrefix(rt.path, "/streams") {
		parameters = append(parameters, map[string]any{
			"name": "timeout", "in": "query", "schema": text,
			"description": "How long the pipeline may take to stop, such as 10s",
		})
	}
	if rt.path == "/streams/{id}" && rt.method == http.MethodDelete {
		parameters = append(parameters, map[string]any{
			"name": "drop_slot", "in": "query", "schema": map[string]any{"type": "boolean"},
			"description": "Drop the replication slots and publications that its sources have made",
		})
	}
	if rt.input != "" {
		op["requestBody"] = map[string]any{
			"description": rt.input, "required": true,
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
