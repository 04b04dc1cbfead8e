package advice

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What exactly-once delivery does not go with is found where it is, and nothing else is.
func TestExactly(t *testing.T) {
	const source = "input: {deltaforge_mysql: {checkpoint: {exactly_once: true}}}\n"
	const out = "deltaforge_redis: {exactly_once: true}"
	for name, c := range map[string]struct {
		config string
		want   []string
	}{
		"as it should be":   {source + "output: {" + out + "}", nil},
		"with a fallback":   {source + "output: {fallback: [ {" + out + "}, {deltaforge_redis: {prefix: refused}} ]}", nil},
		"the source alone":  {source + "output: {deltaforge_redis: {prefix: x}}", []string{"input.deltaforge_mysql"}},
		"a part":            {source, nil},
		"the output alone":  {"input: {deltaforge_mysql: {}}\noutput: {" + out + "}", []string{"output.deltaforge_redis"}},
		"one of a fanout":   {source + "output: {deltaforge_fanout: {outputs: [ {name: a, output: {" + out + "}}, {name: b, output: {drop: {}}} ]}}", []string{"output.deltaforge_fanout.outputs.0.output.deltaforge_redis"}},
		"one of two":        {source + "output: {broker: {outputs: [ {" + out + "}, {drop: {}} ]}}", []string{"output.broker.outputs.0.deltaforge_redis"}},
		"behind a switch":   {source + "output: {switch: {cases: [ {output: {" + out + "}} ]}}", []string{"output.switch.cases.0.output.deltaforge_redis"}},
		"two outputs":       {source + "output: {fallback: [ {" + out + "}, {" + out + "} ]}", []string{"output.fallback.1.deltaforge_redis"}},
		"two sources":       {"input: {broker: {inputs: [ {deltaforge_mysql: {checkpoint: {exactly_once: true}}}, {deltaforge_postgres: {checkpoint: {exactly_once: true}}} ]}}\noutput: {" + out + "}", []string{"input.broker.inputs.1.deltaforge_postgres"}},
		"a batch in parts":  {source + "pipeline: {processors: [ {split: {size: 1}} ]}\noutput: {" + out + "}", []string{"pipeline.processors.0.split"}},
		"one of several":    {source + "pipeline: {processors: [ {archive: {format: lines}} ]}\noutput: {" + out + "}", []string{"pipeline.processors.0.archive"}},
		"at least once":     {"input: {deltaforge_mysql: {}}\npipeline: {processors: [ {split: {size: 1}} ]}\noutput: {deltaforge_redis: {}}", nil},
		"turned off":        {"input: {deltaforge_mysql: {checkpoint: {exactly_once: false}}}\noutput: {deltaforge_redis: {exactly_once: false}}", nil},
		"source in a drill": {source + "output: {drop: {}}", []string{"input.deltaforge_mysql"}},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := Of([]byte(c.config))
			require.NoError(t, err)
			var at []string
			for _, f := range found {
				assert.Contains(t, f.Text, "exactly once: ")
				at = append(at, f.Path)
			}
			assert.Equal(t, c.want, at)
		})
	}
}
