package advice

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/redpanda-data/benthos/v4/public/components/io"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure/extended"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What a component does to the guarantee of a source that sends a batch again until it is acknowledged.
type verdict int

const (
	keeps    verdict = iota // acknowledged means delivered
	loses                   // rows are lost, and an advice says so
	onDemand                // rows are lost because that is what the component is for
)

// component is a component of the engine between the source and SINK.
type component struct {
	is     verdict
	config string // of buffer, pipeline or output; SINK is the output at the end
}

// buffers, processors and outputs have every component of the engine that moves, keeps or drops messages. What is not here has a reason in
// others.
func buffers() map[string]component {
	return map[string]component{
		"none":          {keeps, "buffer: {none: {}}"},
		"memory":        {loses, "buffer: {memory: {}}"},
		"system_window": {loses, "buffer: {system_window: {timestamp_mapping: 'root = now().ts_unix() - 100', size: 1s}}"},
	}
}

func processors() map[string]component {
	one := func(is verdict, text string) component {
		return component{is, "pipeline: {processors: [ " + text + " ]}"}
	}
	return map[string]component{
		"archive":           one(keeps, "archive: {format: lines}, unarchive: {format: lines}"),
		"bloblang":          one(keeps, "bloblang: 'root = this'"),
		"bounds_check":      one(loses, "bounds_check: {max_part_size: 1}"),
		"branch":            one(keeps, "branch: {processors: [ {mapping: root = 1} ], result_map: 'meta x = this'}"),
		"cache":             one(loses, "cache: {resource: seen, operator: add, key: '${! @event_id }', value: x}, mapping: 'root = if errored() { deleted() }'"),
		"cached":            one(keeps, "cached: {cache: seen, key: '${! @event_id }', processors: [ {mapping: root = this} ]}"),
		"catch":             one(keeps, "catch: [ {mapping: root = this} ]"),
		"compress":          one(keeps, "compress: {algorithm: gzip}, decompress: {algorithm: gzip}"),
		"dedupe":            one(loses, "dedupe: {cache: seen, key: '${! @event_id }'}"),
		"for_each":          one(keeps, "for_each: [ {mapping: root = this} ]"),
		"group_by":          one(keeps, "group_by: [ {check: 'this.id == 2', processors: []} ]"),
		"group_by_value":    one(keeps, "group_by_value: {value: '${! this.id }'}"),
		"insert_part":       one(keeps, "insert_part: {content: '{}'}"),
		"jmespath":          one(keeps, "jmespath: {query: '@'}"),
		"jq":                one(keeps, "jq: {query: .}"),
		"log":               one(keeps, "log: {message: x, level: TRACE}"),
		"mapping":           one(keeps, "mapping: root = this"),
		"mapping, deleted":  one(onDemand, "mapping: 'root = if this.id == 3 { deleted() }'"),
		"metric":            one(keeps, "metric: {type: counter, name: x}"),
		"mutation":          one(keeps, "mutation: 'meta x = 1'"),
		"noop":              one(keeps, "noop: {}"),
		"parallel":          one(keeps, "parallel: {processors: [ {mapping: root = this} ]}"),
		"processors":        one(keeps, "processors: [ {mapping: root = this} ]"),
		"rate_limit":        one(keeps, "rate_limit: {resource: rate}"),
		"retry":             one(keeps, "retry: {processors: [ {mapping: root = this} ]}"),
		"select_parts":      one(onDemand, "select_parts: {parts: [ 0 ]}"),
		"sleep":             one(keeps, "sleep: {duration: 1ms}"),
		"split":             one(keeps, "split: {size: 1}"),
		"switch":            one(keeps, "switch: [ {check: 'this.id == 2', processors: [ {mapping: root = this} ]} ]"),
		"sync_response":     one(keeps, "sync_response: {}"),
		"try":               one(keeps, "try: [ {mapping: root = this} ]"),
		"try_catch":         one(keeps, "try_catch: {processors: [ {mapping: root = this} ], catch: []}"),
		"while":             one(keeps, "while: {check: 'false', processors: [ {mapping: root = this} ]}"),
		"workflow":          one(keeps, "workflow: {branches: {a: {processors: [ {mapping: root = 1} ], result_map: 'meta x = this'}}}"),
		"dedupe, and retry": {keeps, "pipeline: {processors: [ {dedupe: {cache: seen, key: '${! @event_id }'}} ]}\noutput: {retry: {max_retries: 0, backoff: {initial_interval: 1ms}, output: SINK}}"},
	}
}

func outputs() map[string]component {
	one := func(is verdict, text string) component { return component{is, "output: " + text} }
	return map[string]component{
		"broker fan_out":              one(keeps, "{broker: {pattern: fan_out, outputs: [ SINK, {drop: {}} ]}}"),
		"broker fan_out_fail_fast":    one(keeps, "{broker: {pattern: fan_out_fail_fast, outputs: [ SINK, {drop: {}} ]}}"),
		"broker fan_out_sequential":   one(keeps, "{broker: {pattern: fan_out_sequential, outputs: [ SINK, {drop: {}} ]}}"),
		"broker batching":             one(loses, "{broker: {outputs: [ SINK ], batching: {count: 100}}}"),
		"broker batching, period":     one(keeps, "{broker: {outputs: [ SINK ], batching: {count: 100, period: 1ms}}}"),
		"broker round_robin":          one(loses, "{broker: {pattern: round_robin, outputs: [ SINK, {drop: {}} ]}}"),
		"broker greedy":               one(loses, "{broker: {pattern: greedy, outputs: [ SINK, {drop: {}} ]}}"),
		"drop":                        one(onDemand, "{drop: {}}"),
		"drop_on":                     one(loses, "{drop_on: {error: true, output: SINK}}"),
		"dynamic":                     one(keeps, "{dynamic: {outputs: {a: SINK}}}"),
		"fallback":                    one(keeps, "{fallback: [ SINK, {test_last: {}} ]}"),
		"reject":                      one(keeps, "{reject: no}"),
		"reject_errored":              one(keeps, "{reject_errored: SINK}"),
		"resource":                    one(keeps, "{resource: sink}\noutput_resources: [ {label: sink, test_sink: {}} ]"),
		"retry":                       one(keeps, "{retry: {output: SINK, backoff: {initial_interval: 1ms}}}"),
		"retry, bounded":              one(keeps, "{retry: {output: SINK, max_retries: 1, backoff: {initial_interval: 1ms}}}"),
		"switch":                      one(keeps, "{switch: {cases: [ {check: 'this.id == 2', output: SINK}, {output: {test_last: {}}} ]}}"),
		"switch without an else":      one(loses, "{switch: {cases: [ {check: 'this.id == 2', output: SINK}, {check: 'this.id == 1', output: {test_last: {}}} ]}}"),
		"switch, strict":              one(keeps, "{switch: {strict_mode: true, cases: [ {check: 'this.id == 2', output: SINK}, {check: 'this.id == 1', output: {test_last: {}}} ]}}"),
		"switch, retry_until_success": one(keeps, "{switch: {retry_until_success: true, cases: [ {check: 'this.id == 2', output: SINK}, {output: {test_last: {}}} ]}}"),
	}
}

// others are components that are not tried, and why.
func others() map[string]string {
	alone := "turns one message into one, and says when it cannot"
	writes := "writes to somewhere, and answers when that is done; what that is worth is its own matter"
	return map[string]string{
		"unarchive": "with archive", "decompress": "with compress", "benchmark": "counts", "crash": "ends the process", "grok": alone, "json_schema": alone,
		"parse_log": alone, "resource": "what it names", "command": alone, "http": alone, "subprocess": alone, "awk": alone, "xml": alone, "schema_registry_decode": alone,
		"broker": "by pattern", "cache": writes, "file": writes, "http_client": writes, "http_server": writes, "inproc": writes, "socket": writes, "stdout": writes,
		"subprocess output": writes, "sync_response": writes, "websocket": writes, "test_sink": "ours", "test_last": "ours",
	}
}

// scene is one stream between a source that repeats and a sink that misbehaves.
type scene struct {
	mu        sync.Mutex
	refusals  int             // of row 2 that are left
	hold      bool            // the sink does not answer
	delivered map[string]bool // ids
	acked     chan struct{}   // closed when the source's batch is acknowledged
	once      sync.Once
	turn      chan struct{} // one batch at a time
}

func (s *scene) Connect(context.Context) error { return nil }
func (s *scene) Close(context.Context) error   { return nil }

// ReadBatch hands the batch out until it is acknowledged.
func (s *scene) ReadBatch(ctx context.Context) (service.MessageBatch, service.AckFunc, error) {
	select {
	case <-s.acked:
		return nil, nil, service.ErrEndOfInput
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	var b service.MessageBatch
	for id := 1; id <= 3; id++ {
		m := service.NewMessage(fmt.Appendf(nil, `{"id":%d}`, id))
		m.MetaSetMut("event_id", fmt.Sprint(id))
		b = append(b, m)
	}
	return b, func(_ context.Context, err error) error {
		if err == nil {
			s.once.Do(func() { close(s.acked) })
		}
		<-s.turn
		return nil
	}, nil
}

// sink is the output at the end; last is another one, which takes everything.
type sink struct {
	s    *scene
	last bool
}

func (sink) Connect(context.Context) error { return nil }
func (sink) Close(context.Context) error   { return nil }

// WriteBatch refuses row 2 for some times.
func (o sink) WriteBatch(ctx context.Context, b service.MessageBatch) error {
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	if o.s.hold && !o.last {
		o.s.mu.Unlock()
		<-ctx.Done()
		o.s.mu.Lock()
		return ctx.Err()
	}
	var refused *service.BatchError
	for i, m := range b {
		id, _ := m.MetaGet("event_id")
		text, _ := m.AsBytes()
		if !o.last && (id == "2" || strings.Contains(string(text), `"id":2`)) && o.s.refusals > 0 {
			o.s.refusals--
			if refused == nil {
				refused = service.NewBatchError(b, fmt.Errorf("too large"))
			}
			refused.Failed(i, fmt.Errorf("too large"))
			continue
		}
		for n := 1; n <= 3; n++ { // archived ones have several
			if id == fmt.Sprint(n) || strings.Contains(string(text), fmt.Sprintf(`"id":%d`, n)) {
				o.s.delivered[fmt.Sprint(n)] = true
			}
		}
	}
	if refused != nil {
		return refused
	}
	return nil
}

// run runs a stream, and reports whether its batch was acknowledged within a while, and whether all of it was delivered.
func run(t *testing.T, config string, refusals int, hold bool, patience time.Duration) (acked, delivered bool) {
	s := &scene{refusals: refusals, hold: hold, delivered: map[string]bool{}, acked: make(chan struct{}), turn: make(chan struct{}, 1)}
	env := service.NewEnvironment()
	require.NoError(t, env.RegisterBatchInput("deltaforge_test", service.NewConfigSpec(),
		func(*service.ParsedConfig, *service.Resources) (service.BatchInput, error) { return s, nil }))
	for name, last := range map[string]bool{"test_sink": false, "test_last": true} {
		require.NoError(t, env.RegisterBatchOutput(name, service.NewConfigSpec(),
			func(*service.ParsedConfig, *service.Resources) (service.BatchOutput, service.BatchPolicy, int, error) {
				return sink{s, last}, service.BatchPolicy{}, 1, nil
			}))
	}
	b := env.NewStreamBuilder()
	require.NoError(t, b.SetYAML(config))
	stream, err := b.Build()
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = stream.Run(ctx) }()
	select {
	case <-s.acked:
		acked = true
	case <-time.After(patience):
	}
	s.mu.Lock()
	delivered = len(s.delivered) == 3
	s.mu.Unlock()
	cancel()
	_ = stream.StopWithin(100 * time.Millisecond)
	<-done
	return acked, delivered
}

const frame = `input: {deltaforge_test: {}}
cache_resources: [ {label: seen, memory: {}} ]
rate_limit_resources: [ {label: rate, local: {}} ]
logger: {level: "OFF"}
http: {enabled: false}
`

// TestComponents: what each component of the engine does between a source and an output that refuses a row twice, or does not answer. Whatever
// loses a row has an advice, and nothing else has.
func TestComponents(t *testing.T) {
	for kind, all := range map[string]map[string]component{"buffer": buffers(), "processor": processors(), "output": outputs()} {
		for name, c := range all {
			t.Run(kind+" "+name, func(t *testing.T) {
				t.Parallel()
				config := frame + c.config + "\n"
				if !strings.Contains(config, "output:") {
					config += "output: SINK\n"
				}
				config = strings.ReplaceAll(config, "SINK", "{test_sink: {}}")
				found, err := Of([]byte(config))
				require.NoError(t, err)
				assert.Equal(t, c.is == loses, len(found) > 0, "%v", found)
				if c.is != keeps {
					return
				}
				acked, delivered := run(t, config, 2, false, 10*time.Second)
				switch name {
				case "reject": // for ever
					assert.False(t, acked)
				case "switch, strict": // row 3 for ever
					assert.False(t, acked)
				default:
					assert.True(t, acked, "acknowledged at last")
					assert.True(t, delivered, "acknowledged and not delivered")
				}
				if name == "fallback" || name == "reject" {
					return
				}
				acked, _ = run(t, config, 0, true, 200*time.Millisecond)
				assert.False(t, acked, "acknowledged before the output has answered")
			})
		}
	}
}

// TestLosersLose: the advice is no superstition. Those that lose rows do so here.
func TestLosersLose(t *testing.T) {
	for name, c := range map[string]component{
		"memory": buffers()["memory"], "bounds_check": processors()["bounds_check"], "cache": processors()["cache"], "dedupe": processors()["dedupe"],
		"drop_on": outputs()["drop_on"], "switch without an else": outputs()["switch without an else"],
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := frame + c.config + "\n"
			if !strings.Contains(config, "output:") {
				config += "output: SINK\n"
			}
			acked, delivered := run(t, strings.ReplaceAll(config, "SINK", "{test_sink: {}}"), 2, name == "memory", 10*time.Second)
			assert.True(t, acked)
			assert.False(t, delivered)
		})
	}
	acked, _ := run(t, frame+"output: {broker: {outputs: [ {test_sink: {}} ], batching: {count: 100}}}\n", 0, false, time.Second)
	assert.False(t, acked, "batching without a period")
}

// TestEveryComponentWasLookedAt: an upgrade of the engine that brings a new one fails here.
func TestEveryComponentWasLookedAt(t *testing.T) {
	known := func(kind string, all map[string]component) func(string, *service.ConfigView) {
		names := map[string]bool{}
		for name := range all {
			first, _, _ := strings.Cut(strings.ReplaceAll(name, ",", " "), " ")
			names[first] = true
		}
		return func(name string, _ *service.ConfigView) {
			if !names[name] && others()[name] == "" && !strings.HasPrefix(name, "deltaforge") {
				assert.Fail(t, "nobody has looked at it", "%s %s", kind, name)
			}
		}
	}
	env := service.GlobalEnvironment()
	env.WalkBuffers(known("buffer", buffers()))
	env.WalkProcessors(known("processor", processors()))
	env.WalkOutputs(known("output", outputs()))
}
