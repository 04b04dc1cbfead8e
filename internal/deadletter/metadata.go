package deadletter

import (
	"encoding/json"
	"unicode/utf8"
)

// bytesValue is a value of the metadata that is no text, such as a key in Avro. JSON would change it.
type bytesValue struct {
	Data []byte `json:"_base64"`
}

// marshalMetadata returns the metadata of a message as JSON, each value exact.
func marshalMetadata(metadata map[string]string) ([]byte, error) {
	values := make(map[string]any, len(metadata))
	for k, v := range metadata {
		values[k] = v
		if !utf8.ValidString(v) {
			values[k] = bytesValue{[]byte(v)}
		}
	}
	return json.Marshal(values)
}

// unmarshalMetadata reads what marshalMetadata has written.
func unmarshalMetadata(data []byte) (map[string]string, error) {
	var values map[string]json.RawMessage
	if err := json.Unmarshal(data, &values); err != nil || values == nil {
		return nil, err
	}
	metadata := make(map[string]string, len(values))
	for k, raw := range values {
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			var b bytesValue
			if err := json.Unmarshal(raw, &b); err != nil {
				return nil, err
			}
			text = string(b.Data)
		}
		metadata[k] = text
	}
	return metadata, nil
}
