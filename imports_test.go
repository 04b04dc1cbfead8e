package deltaforge

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/deltaforge/deltaforge"

// layer says what the packages that match a pattern may import of ours. Tests may also import what tests says.
type layer struct {
	pattern string // a path in the module, as path.Match takes it; "." is the root
	imports []string
	tests   []string
}

const anything = "**"

// layers is the direction of imports: the first pattern that matches a package counts.
func layers() []layer {
	forTests := []string{"internal/testenv", "internal/testenv/debeziumtest", "internal/testenv/plant", "internal/servers", "internal/e2e", "internal/typematrix"}
	with := func(l layer) layer { l.tests = append(l.tests, forTests...); return l }
	return []layer{
		{pattern: ".", imports: []string{anything}},
		{pattern: "cmd/*", imports: []string{anything}},
		with(layer{pattern: "inputs/mysqlcdc", imports: append(anyInput(), "inputs/mysqlcdc/internal/*"), tests: []string{mysqlParts + "recorded"}}),
		with(layer{pattern: "inputs/postgrescdc", imports: append(anyInput(), "internal/loopback", "internal/plane", "inputs/postgrescdc/internal/*")}),
		// The parts of the PostgreSQL input, from the bytes up.
		with(postgresPart("lsn")),
		with(postgresPart("dsn")),
		with(postgresPart("wire")),
		with(postgresPart("pgoutput", "lsn")),
		with(postgresPart("catalog", "lsn")),
		with(postgresPart("publication", "internal/fault", "internal/tablefilter")),
		with(postgresPart("value", "internal/change", "internal/envelope")),
		with(postgresPart("shape", "lsn", "pgoutput", "catalog", "publication", "value", "internal/change")),
		with(postgresPart("row", "lsn", "pgoutput", "shape", "value", "internal/change", "internal/coordinator", "internal/envelope", "internal/fault")),
		with(postgresPart("chunk", "lsn", "wire", "pgoutput", "value", "shape", "row", "internal/change", "internal/envelope", "internal/fault", "internal/snapshot", "checkpoint")),
		with(postgresPart("history", "lsn", "pgoutput", "internal/change", "checkpoint")),
		with(layer{pattern: "inputs/*", imports: anyInput()}),
		// The parts of the MySQL input, from the bytes up. Each may import what stands before it, as far as it is named.
		with(mysqlPart("product")),
		with(mysqlPart("charset")),
		with(mysqlPart("recorded")),
		with(mysqlPart("statement", "product")),
		with(mysqlPart("gtid", "checkpoint")),
		with(mysqlPart("wire", "binlog", "product", "statement", "gtid", "internal/coordinator", "internal/fault", "internal/loopback")),
		with(mysqlPart("binlog", "product", "gtid")),
		with(mysqlPart("offset", "binlog")),
		with(mysqlPart("row", "charset", "gtid", "binlog", "shape", "internal/change", "internal/coordinator", "internal/fault", "internal/envelope")),
		with(mysqlPart("shape", "product", "charset", "statement", "binlog")),
		with(mysqlPart("ddl", "product", "charset", "statement", "shape")),
		with(mysqlPart("catalog", "product", "charset", "gtid", "statement", "shape", "wire")),
		with(mysqlPart("filter", "catalog", "statement", "internal/tablefilter")),
		with(mysqlPart("needs", "product", "statement", "catalog", "filter", "wire", "internal/fault")),
		with(mysqlPart("history", "gtid", "shape", "checkpoint")),
		with(mysqlPart("resolve", "product", "charset", "statement", "binlog", "row", "shape", "catalog", "internal/change", "internal/fault")),
		with(mysqlPart("chunk", "product", "charset", "statement", "binlog", "gtid", "row", "shape", "catalog", "filter", "resolve", "wire",
			"internal/snapshot", "internal/change", "internal/fault", "checkpoint")),
		with(layer{pattern: "processors/*", imports: []string{"internal/step", "internal/guard", "internal/tablefilter", "internal/change", "internal/envelope", "internal/format"}, tests: []string{"internal/testenv/steptest", "internal/envelope/*"}}),
		with(layer{pattern: "internal/stored", imports: []string{"internal/change", "internal/envelope"}}),
		with(layer{pattern: "internal/deadletter", imports: []string{"internal/change", "internal/guard", "internal/sink", "internal/sqlitefile", "internal/stored"}, tests: []string{"internal/envelope"}}),
		with(layer{pattern: "outputs/*", imports: []string{"internal/deadletter", "internal/sqlitefile", "internal/stored", "internal/sink", "internal/kafkaconn", "internal/loopback", "internal/change", "internal/envelope", "internal/exactly", "internal/livecopy", "checkpoint"}, tests: []string{"internal/envelope/*"}}),
		with(layer{pattern: "internal/coordinator", imports: []string{
			"internal/coordinator/internal/*", "internal/change", "internal/fault", "internal/guard", "internal/plane",
			"internal/snapshot", "internal/exactly", "internal/livecopy", "checkpoint",
		}, tests: []string{"internal/envelope", "internal/envelope/*"}}),
		with(layer{pattern: "internal/coordinator/internal/*", imports: []string{"internal/change", "internal/envelope", "internal/fault", "internal/plane", "internal/exactly", "checkpoint"}}),
		with(layer{pattern: "internal/snapshot", imports: []string{
			"internal/change", "internal/envelope", "internal/fault", "internal/guard", "internal/livecopy", "internal/plane", "internal/tablefilter",
			"checkpoint",
		}, tests: []string{"internal/envelope/*"}}),
		with(layer{pattern: "internal/envelope", imports: []string{"internal/change"}}),
		with(layer{pattern: "internal/envelope/parse"}),
		with(layer{pattern: "internal/envelope/*", imports: []string{"internal/change", "internal/envelope", "internal/envelope/parse", "internal/envelope/confluent"}}),
		with(layer{pattern: "internal/registry"}),
		with(layer{pattern: "internal/format", imports: []string{"internal/change", "internal/envelope", "internal/envelope/*", "internal/registry"}}),
		with(layer{pattern: "internal/change", imports: []string{"checkpoint", "internal/exactly"}, tests: []string{"internal/testenv/steptest"}}),
		with(layer{pattern: "internal/exactly", imports: []string{"checkpoint"}}),
		with(layer{pattern: "internal/sink", imports: []string{"internal/guard"}}),
		with(layer{pattern: "internal/step", imports: []string{"internal/change", "internal/envelope", "internal/guard", "internal/tablefilter"}, tests: []string{"internal/testenv/steptest"}}),
		with(layer{pattern: "checkpoint", imports: []string{"internal/sqlitefile", "internal/kafkaconn", "internal/sink", "checkpoint/internal/*"}}),
		with(layer{pattern: "checkpoint/internal/*", imports: []string{"internal/kafkaconn"}}),
		with(layer{pattern: "internal/kafkaconn", imports: []string{"internal/loopback", "internal/sink"}}),
		{pattern: "internal/sqlitefile"},
		{pattern: "internal/livecopy"},
		with(layer{pattern: "metrics"}),
		with(layer{pattern: "internal/control", imports: []string{
			"internal/control/*", "internal/control/internal/*", "internal/advice", "internal/deadletter", "internal/guard", "internal/loopback",
			"internal/plane", "internal/redact",
		}}),
		with(layer{pattern: "internal/control/document", imports: []string{"internal/redact"}}),
		with(layer{pattern: "internal/control/engine"}),
		with(layer{pattern: "internal/control/door", imports: []string{"internal/control/document", "internal/redact"}}),
		with(layer{pattern: "internal/control/logs", imports: []string{"internal/control/document", "internal/redact"}}),
		with(layer{pattern: "internal/control/internal/account"}),
		with(layer{pattern: "internal/control/internal/openapi"}),
		with(layer{pattern: "internal/control/internal/state"}),
		with(layer{pattern: "internal/control/internal/sources", imports: []string{"internal/plane"}}),
		with(layer{pattern: "internal/control/internal/trial", imports: []string{"internal/control/document", "internal/redact"}}),
		{pattern: "internal/fault"},
		{pattern: "internal/loopback"},
		{pattern: "internal/tablefilter"},
		{pattern: "internal/redact"},
		{pattern: "internal/plane"},
		{pattern: "internal/connectoffsets"},
		{pattern: "internal/advice"},
		{pattern: "internal/guard"},
		{pattern: "internal/version"},
		{pattern: "internal/typematrix"},
		{pattern: "internal/demo", imports: []string{anything}},
		{pattern: "internal/mutants"},
		{pattern: "internal/bench", imports: []string{anything}},
		{pattern: "internal/operator", imports: []string{anything}},
		{pattern: "internal/docgen", imports: []string{anything}},
		{pattern: "internal/docgen/*", imports: []string{anything}},
		{pattern: "internal/servers", tests: forTests, imports: []string{"internal/servers/*"}},
		{pattern: "internal/servers/*", imports: []string{"internal/servers", "internal/servers/*"}},
		{pattern: "internal/testenv", imports: []string{"internal/servers", "internal/servers/*", "internal/testenv/secrets"}},
		{pattern: "internal/testenv/steptest", imports: []string{"internal/change", "internal/envelope"}},
		{pattern: "internal/testenv/debeziumtest", imports: []string{"internal/change", "internal/testenv", "internal/typematrix"}},
		{pattern: "internal/testenv/*", imports: []string{"internal/testenv", "internal/servers", "internal/servers/*"}},
		{pattern: "internal/e2e", imports: []string{anything}},
		{pattern: "internal/e2e/*", imports: []string{anything}},
		{pattern: "config", tests: []string{anything}},
		{pattern: "resources", tests: []string{anything}},
	}
}

// anyInput is what every input may import.
func anyInput() []string {
	return []string{
		"internal/coordinator", "internal/fault", "internal/tablefilter", "internal/snapshot", "internal/change", "internal/envelope",
		"internal/format", "internal/version", "checkpoint",
	}
}

const (
	mysqlParts    = "inputs/mysqlcdc/internal/"
	postgresParts = "inputs/postgrescdc/internal/"
)

// mysqlPart is the layer of a part of the MySQL input; the imports are other parts, or paths in the module. Tests may import what is
// recorded of servers, and the parts below all others.
func mysqlPart(name string, imports ...string) layer {
	return part(mysqlParts, name, imports, mysqlParts+"recorded", mysqlParts+"product", mysqlParts+"statement")
}

// postgresPart is the same for the PostgreSQL input.
func postgresPart(name string, imports ...string) layer { return part(postgresParts, name, imports) }

func part(of, name string, imports []string, tests ...string) layer {
	l := layer{pattern: of + name, tests: append(tests, "internal/envelope/*")}
	for _, i := range imports {
		if !strings.Contains(i, "/") && i != "checkpoint" {
			i = of + i
		}
		l.imports = append(l.imports, i)
	}
	return l
}

// edge is one import of a package of ours by another.
type edge struct {
	from, to string
	test     bool // in a _test.go file
}

// violations returns what is wrong with the edges.
func violations(edges []edge) (wrong []string) {
	for _, e := range edges {
		i := slices.IndexFunc(layers(), func(l layer) bool { return matches(l.pattern, e.from) })
		if i < 0 {
			wrong = append(wrong, fmt.Sprintf("%s has no layer", e.from))
			continue
		}
		l := layers()[i]
		allowed := l.imports
		if e.test {
			allowed = append(append([]string{e.from}, allowed...), l.tests...) // its own external test too
		}
		if !slices.ContainsFunc(allowed, func(p string) bool { return matches(p, e.to) }) {
			wrong = append(wrong, fmt.Sprintf("%s imports %s", e.from, e.to))
		}
	}
	return wrong
}

func matches(pattern, name string) bool {
	ok, _ := path.Match(pattern, name)
	return ok || pattern == anything
}

// readEdges returns the imports between the packages below dir, build tags or not.
func readEdges(dir string) (edges []edge, err error) {
	err = filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && file != dir && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(file, ".go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		from, err := filepath.Rel(dir, filepath.Dir(file))
		if err != nil {
			return err
		}
		for _, spec := range f.Imports {
			to, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if to == module {
				to = module + "/."
			}
			if to, ours := strings.CutPrefix(to, module+"/"); ours {
				edges = append(edges, edge{filepath.ToSlash(from), to, strings.HasSuffix(file, "_test.go")})
			}
		}
		return nil
	})
	return edges, err
}

func TestImportsPointOneWay(t *testing.T) {
	edges, err := readEdges(".")
	require.NoError(t, err)
	assert.Contains(t, edges, edge{from: "internal/coordinator", to: "checkpoint"}, "the reader sees the imports")
	assert.Empty(t, violations(edges))
}

// The checker fails on each of these.
func TestImportsCheckerSeesBadEdges(t *testing.T) {
	for _, e := range []edge{
		{from: "inputs/mysqlcdc", to: "inputs/postgrescdc"},
		{from: "inputs/mysqlcdc", to: "outputs/kafkaout"},
		{from: "inputs/mysqlcdc", to: "metrics"},
		{from: "inputs/mysqlcdc", to: "internal/testenv"},
		{from: "inputs/postgrescdc", to: "inputs/mysqlcdc/internal/row"},
		{from: "inputs/postgrescdc/internal/publication", to: "internal/change"},
		{from: "inputs/postgrescdc/internal/value", to: "inputs/postgrescdc/internal/shape"},
		{from: "inputs/postgrescdc/internal/pgoutput", to: "inputs/postgrescdc/internal/row"},
		{from: "inputs/mysqlcdc/internal/row", to: "inputs/mysqlcdc/internal/catalog"},
		{from: "inputs/mysqlcdc/internal/binlog", to: "inputs/mysqlcdc/internal/row"},
		{from: "inputs/mysqlcdc/internal/shape", to: "inputs/mysqlcdc/internal/ddl"},
		{from: "inputs/mysqlcdc/internal/ddl", to: "inputs/mysqlcdc"},
		{from: "inputs/mysqlcdc/internal/history", to: "inputs/mysqlcdc/internal/recorded"},
		{from: "outputs/kafkaout", to: "internal/coordinator"},
		{from: "outputs/kafkaout", to: "outputs/redisout", test: true},
		{from: "processors/filter", to: "internal/e2e"},
		{from: "internal/coordinator", to: "internal/envelope"},
		{from: "internal/envelope", to: "checkpoint"},
		{from: "internal/change", to: "internal/envelope"},
		{from: "checkpoint", to: "internal/change"},
		{from: "checkpoint", to: "internal/change", test: true},
		{from: "metrics", to: "checkpoint"},
		{from: "internal/control", to: "."},
		{from: "internal/control/engine", to: "internal/control"},
		{from: "config", to: "checkpoint"},
	} {
		assert.Equal(t, []string{e.from + " imports " + e.to}, violations([]edge{e}))
	}
	assert.Equal(t, []string{"inputs/mysqlcdc/internal/new has no layer"}, violations([]edge{{from: "inputs/mysqlcdc/internal/new", to: "checkpoint"}}))
	assert.Equal(t, []string{"utils has no layer"}, violations([]edge{{from: "utils", to: "checkpoint"}}))
	for _, e := range []edge{
		{from: "inputs/mysqlcdc", to: "internal/testenv", test: true},
		{from: "inputs/mysqlcdc", to: "inputs/mysqlcdc", test: true},
		{from: "inputs/mysqlcdc", to: "inputs/mysqlcdc/internal/ddl"},
		{from: "inputs/mysqlcdc/internal/history", to: "inputs/mysqlcdc/internal/recorded", test: true},
		{from: "cmd/deltaforge", to: "."},
		{from: ".", to: "inputs/mysqlcdc"},
	} {
		assert.Empty(t, violations([]edge{e}))
	}
}
