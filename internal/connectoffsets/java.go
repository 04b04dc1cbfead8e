package connectoffsets

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The file of a standalone worker is a HashMap<byte[], byte[]> in Java's serialization (Java Object Serialization Specification, chapter 6).
const (
	tcNull         = 0x70
	tcReference    = 0x71
	tcClassDesc    = 0x72
	tcObject       = 0x73
	tcArray        = 0x75
	tcBlockData    = 0x77
	tcEndBlockData = 0x78
)

var errJava = errors.New("it is not a map of bytes in Java's serialization, or it ends too early")

type javaReader struct {
	rest []byte
	bad  bool
}

func (r *javaReader) take(n int) []byte {
	if n < 0 || n > len(r.rest) {
		r.bad, r.rest = true, nil
		return make([]byte, max(0, min(n, 8)))
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *javaReader) u8() byte    { return r.take(1)[0] }
func (r *javaReader) u16() int    { return int(binary.BigEndian.Uint16(r.take(2))) }
func (r *javaReader) u32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }

// class reads the description of a class, or a reference to one, and returns its name; empty for a reference.
func (r *javaReader) class() string {
	switch r.u8() {
	case tcReference:
		r.take(4)
		return ""
	case tcClassDesc:
	default:
		r.bad = true
		return ""
	}
	name := string(r.take(r.u16()))
	r.take(8 + 1) // the version, flags
	for range r.u16() {
		kind := r.u8()
		r.take(r.u16())
		if kind == 'L' || kind == '[' {
			r.bad = true // a field that is an object
			return ""
		}
	}
	if r.u8() != tcEndBlockData || r.u8() != tcNull {
		r.bad = true
	}
	return name
}

// bytes reads a byte[], nil for a null.
func (r *javaReader) bytes() []byte {
	switch r.u8() {
	case tcNull:
		return nil
	case tcArray:
		if name := r.class(); name != "" && name != "[B" {
			r.bad = true
		}
		return r.take(int(int32(r.u32())))
	default:
		r.bad = true
		return nil
	}
}

func readJava(data []byte) ([]Pair, error) {
	r := &javaReader{rest: data}
	r.take(2)
	if r.u16() != 5 || r.u8() != tcObject {
		return nil, errJava
	}
	if name := r.class(); r.bad || name != "java.util.HashMap" {
		return nil, fmt.Errorf("%w: it is a %q", errJava, name)
	}
	r.take(4 + 4) // the fields loadFactor and threshold
	if r.u8() != tcBlockData || r.u8() != 8 {
		return nil, errJava
	}
	r.take(4) // buckets
	n := r.u32()
	var pairs []Pair
	for range n {
		p := Pair{r.bytes(), r.bytes()}
		if r.bad {
			return nil, errJava
		}
		pairs = append(pairs, p)
	}
	if r.u8() != tcEndBlockData || r.bad {
		return nil, errJava
	}
	return pairs, nil
}
