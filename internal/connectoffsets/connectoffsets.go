// Package connectoffsets reads the offsets that connectors of Kafka Connect save: the file of a standalone worker or of an embedded engine, the
// records of an offsets topic, the answer of Kafka Connect's REST API, or an offset alone.
package connectoffsets

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Offset is what a connector has saved for one of the servers that it reads.
type Offset struct {
	Connector string // empty: unknown
	Server    string // topic.prefix of the connector; empty: unknown
	Value     []byte // a JSON object
}

// Read reads a file.
func Read(data []byte) ([]Offset, error) {
	if bytes.HasPrefix(data, []byte{0xac, 0xed}) {
		pairs, err := readJava(data)
		if err != nil {
			return nil, fmt.Errorf("a file of offsets: %w", err)
		}
		return fromPairs(pairs)
	}
	var whole struct {
		Offsets []struct {
			Partition struct{ Server string }
			Offset    json.RawMessage
		}
	}
	data = bytes.TrimSpace(data)
	if json.Unmarshal(data, &whole) != nil { // records of a topic, a line each
		return readLines(data)
	}
	if whole.Offsets == nil {
		return []Offset{{Value: data}}, nil
	}
	var all []Offset
	for _, o := range whole.Offsets {
		all = append(all, Offset{Server: o.Partition.Server, Value: o.Offset})
	}
	return all, nil
}

// Pair is a record of an offsets topic; an empty value takes back those before it.
type Pair struct{ Key, Value []byte }

func readLines(data []byte) ([]Offset, error) {
	var pairs []Pair
	for i, line := range bytes.Split(data, []byte{'\n'}) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		key, value, ok := bytes.Cut(line, []byte{'\t'})
		if !ok || !json.Valid(key) {
			return nil, fmt.Errorf("line %d: want a key and a value with a tab between them, as kafka-console-consumer prints with --property print.key=true, got %.80q", i+1, line)
		}
		if string(value) == "null" {
			value = nil
		}
		pairs = append(pairs, Pair{key, value})
	}
	return fromPairs(pairs)
}

// Records returns the newest offsets of an offsets topic, whose records are in order.
func Records(pairs []Pair) ([]Offset, error) { return fromPairs(pairs) }

func fromPairs(pairs []Pair) ([]Offset, error) {
	var order []string
	newest := map[string]Offset{}
	for _, p := range pairs {
		o, err := parseKey(p.Key)
		if err != nil {
			return nil, err
		}
		key := o.Connector + "\x00" + o.Server
		if len(p.Value) == 0 {
			delete(newest, key)
			continue
		}
		if _, ok := newest[key]; !ok {
			order = append(order, key)
		}
		o.Value = p.Value
		newest[key] = o
	}
	var all []Offset
	for _, key := range order {
		if o, ok := newest[key]; ok {
			all = append(all, o)
			delete(newest, key)
		}
	}
	return all, nil
}

// parseKey reads ["connector",{"server":"prefix"}], with or without a schema around it.
func parseKey(key []byte) (o Offset, err error) {
	var whole struct{ Payload json.RawMessage }
	if json.Unmarshal(key, &whole) == nil && whole.Payload != nil {
		key = whole.Payload
	}
	var parts []json.RawMessage
	if err := json.Unmarshal(key, &parts); err != nil || len(parts) != 2 {
		return o, fmt.Errorf(`want a key of the form ["connector",{"server":"prefix"}], got %.200q`, key)
	}
	var partition map[string]any
	if json.Unmarshal(parts[0], &o.Connector) != nil || json.Unmarshal(parts[1], &partition) != nil {
		return o, fmt.Errorf(`want a key of the form ["connector",{"server":"prefix"}], got %.200q`, key)
	}
	o.Server, _ = partition["server"].(string)
	return o, nil
}

// Choose returns the offset of a server, or the only one there is.
func Choose(all []Offset, server string) (Offset, error) {
	var names []string
	var found []Offset
	for _, o := range all {
		names = append(names, fmt.Sprintf("%s (connector %s)", o.Server, o.Connector))
		if server == "" || o.Server == server {
			found = append(found, o)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(all) == 0:
		return Offset{}, errors.New("there is no offset: the connector has saved none yet")
	default:
		return Offset{}, fmt.Errorf("there are %d offsets that may be meant: give --server; there are %s", len(found), strings.Join(names, ", "))
	}
}
