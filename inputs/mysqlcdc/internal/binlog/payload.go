package binlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/klauspost/compress/zstd"
)

// maxPayloadWindow bounds the memory of decompression.
const maxPayloadWindow = 64 << 20

// Payload gives the events of a TRANSACTION_PAYLOAD_EVENT, MySQL's compressed transaction.
type Payload struct {
	in    io.Reader
	close func()
}

// OpenPayload reads the head of the event.
func OpenPayload(body []byte) (*Payload, error) {
	c := Cursor{Rest: body}
	var compression uint64
	for {
		field := c.Lenenc()
		if field == replication.OTW_PAYLOAD_HEADER_END_MARK || c.Short {
			break
		}
		value := Cursor{Rest: c.Take(c.Length())}
		if field == replication.OTW_PAYLOAD_COMPRESSION_TYPE_FIELD {
			compression = value.Lenenc()
		}
	}
	if c.Short {
		return nil, ErrTruncated
	}
	in := bytes.NewReader(c.Rest)
	switch compression {
	case replication.ZSTD:
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxPayloadWindow))
		if err != nil {
			return nil, err
		}
		return &Payload{z, z.Close}, nil
	case replication.NONE:
		return &Payload{in, func() {}}, nil
	default:
		return nil, fmt.Errorf("unknown compression %d", compression)
	}
}

// Next returns the header and the body of the next event, which has no checksum; io.EOF after the last one.
func (p *Payload) Next() (Header, []byte, error) {
	data, err := NextEvent(p.in)
	if err != nil {
		return Header{}, nil, err
	}
	h, body, err := ParseHeader(data)
	if err == nil && h.Kind == replication.TRANSACTION_PAYLOAD_EVENT {
		err = errors.New("one inside another")
	}
	return h, body, err
}

// Close frees the memory of decompression.
func (p *Payload) Close() { p.close() }
