package connectoffsets

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// javaMap is a HashMap<byte[], byte[]> as Java writes it.
func javaMap(pairs ...string) []byte {
	be := binary.BigEndian
	b := append([]byte{0xac, 0xed, 0, 5, 's', 'r', 0, 17}, "java.util.HashMap"...)
	b = append(b, 5, 7, 0xda, 0xc1, 0xc3, 0x16, 0x60, 0xd1, 3, 0, 2, 'F', 0, 10)
	b = append(append(b, "loadFactor"...), 'I', 0, 9)
	b = append(append(b, "threshold"...), 'x', 'p', 0x3f, 0x40, 0, 0, 0, 0, 0, 12, 'w', 8, 0, 0, 0, 16)
	b = be.AppendUint32(b, uint32(len(pairs)/2))
	for i, p := range pairs {
		if b = append(b, 'u'); i == 0 {
			b = append(b, 'r', 0, 2, '[', 'B', 0xac, 0xf3, 0x17, 0xf8, 6, 8, 0x54, 0xe0, 2, 0, 0, 'x', 'p')
		} else {
			b = append(b, 'q', 0, 0x7e, 0, 2)
		}
		b = append(be.AppendUint32(b, uint32(len(p))), p...)
	}
	return append(b, 'x')
}

func TestRead(t *testing.T) {
	value := `{"file":"b.1","pos":4}`
	for name, c := range map[string]struct{ in, want string }{
		"a file":               {string(javaMap(`["c",{"server":"s"}]`, value)), "c s " + value},
		"a file of several":    {string(javaMap(`["c",{"server":"s"}]`, value, `["d",{"server":"u"}]`, "{}")), "c s " + value + "; d u {}"},
		"an empty file":        {string(javaMap()), ""},
		"the REST API":         {`{"offsets":[{"partition":{"server":"s"},"offset":` + value + `}]}`, " s " + value},
		"an offset alone":      {value + "\n", "  " + value},
		"records of a topic":   {`["c",{"server":"s"}]` + "\t{}\n" + `["c",{"server":"s"}]` + "\t" + value + "\n", "c s " + value},
		"a record taken back":  {`["c",{"server":"s"}]` + "\t{}\n" + `["c",{"server":"s"}]` + "\tnull\n", ""},
		"a key with a schema":  {`{"schema":null,"payload":["c",{"server":"s"}]}` + "\t{}", "c s {}"},
		"with several tenants": {`["c",{"server":"s","database":"d"}]` + "\t{}", "c s {}"},
	} {
		t.Run(name, func(t *testing.T) {
			all, err := Read([]byte(c.in))
			require.NoError(t, err)
			got := ""
			for i, o := range all {
				if i > 0 {
					got += "; "
				}
				got += o.Connector + " " + o.Server + " " + string(o.Value)
			}
			assert.Equal(t, c.want, got)
		})
	}
	for in, want := range map[string]string{
		"nonsense":                     `line 1: want a key and a value with a tab between them, as kafka-console-consumer prints with --property print.key=true, got "nonsense"`,
		"\xac\xed\x00\x05p":            "a file of offsets: " + errJava.Error(),
		string(javaMap("k", "v"))[:80]: "a file of offsets: " + errJava.Error(),
		"{}\t{}":                       `want a key of the form ["connector",{"server":"prefix"}], got "{}"`,
	} {
		_, err := Read([]byte(in))
		assert.EqualError(t, err, want)
	}
}

func TestChoose(t *testing.T) {
	all := []Offset{{Connector: "c", Server: "s"}, {Connector: "d", Server: "u"}}
	o, err := Choose(all, "u")
	require.NoError(t, err)
	assert.Equal(t, all[1], o)
	_, err = Choose(all, "")
	require.EqualError(t, err, "there are 2 offsets that may be meant: give --server; there are s (connector c), u (connector d)")
	_, err = Choose(nil, "")
	require.EqualError(t, err, "there is no offset: the connector has saved none yet")
}

func FuzzRead(f *testing.F) {
	f.Add(javaMap(`["c",{"server":"s"}]`, "{}"))
	f.Add([]byte(`["c",{"server":"s"}]` + "\t{}"))
	f.Fuzz(func(_ *testing.T, data []byte) { _, _ = Read(data) })
}
