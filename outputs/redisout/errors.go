package redisout

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/deltaforge/deltaforge/internal/sink"
)

// protocolError begins the answer to a command with a part that is larger than the server takes. The server then closes the
// connection.
const protocolError = "ERR Protocol error"

// answer is what the server's answers of one code mean. Redis has no error numbers: the first word is the code.
type answer struct {
	code string
	kind sink.Kind
	hint string
}

func answers() []answer {
	const cluster = "the server is part of a Redis Cluster: set kind to cluster; where it is set, the output looks again for the primary of its keys"
	return []answer{
		{"OOM", sink.OutOfMemory, "raise maxmemory, or bound the streams with max_len"},
		{"READONLY", sink.ReadOnly, "point url at the primary"},
		{"MISCONF", sink.ReadOnly, "the server cannot write to its disk and refuses writes"},
		{"NOAUTH", sink.Auth, "set username and password"},
		{"WRONGPASS", sink.Auth, "check username and password"},
		{"ERR AUTH", sink.Auth, "the server has no password for the default user: check username and password"},
		{"NOPERM", sink.Permission, "grant +multi +exec +xadd +incr +watch and the keys of the streams to this user"},
		{"WRONGTYPE", sink.Routing, "a key of another type has the name of the stream: rename one of them"},
		{"ERR The stream has exhausted the last possible ID", sink.Routing, "its last id is the largest there is: delete or rename the stream"},
		{"ERR value is not an integer", sink.Routing, ""},
		{"ERR increment or decrement would overflow", sink.Routing, ""},
		{"ERR Elements are too large to be stored", sink.TooLarge, ""},
		{"MOVED", sink.Other, cluster},
		{"ASK", sink.Other, cluster},
		{"CROSSSLOT", sink.Other, cluster},
		{"CLUSTERDOWN", sink.Other, cluster},
		{"LOADING", sink.Connect, "it will answer when it has read its data"},
		{"MASTERDOWN", sink.Connect, "point url at the primary"},
		{"ERR max number of clients", sink.Connect, "raise maxclients"},
		{"NOREPLICAS", sink.Backpressure, "the server has fewer replicas than min-replicas-to-write"},
		{"BUSY", sink.Timeout, "a script keeps the server busy"},
		{protocolError, sink.TooLarge, "raise proto-max-bulk-len, or lower max_message_bytes"},
	}
}

// classify gives an error of the client or the server its kind and, where there is one, the way out.
func classify(err error, what string) *sink.Error {
	if known, ok := errors.AsType[*sink.Error](err); ok {
		return known
	}
	kind, hint := kindOf(err)
	return sink.Explain(kind, what, err, hint)
}

func kindOf(err error) (kind sink.Kind, hint string) {
	var netErr net.Error
	switch {
	case isAnswer(err):
		text := err.Error()
		if _, reason, ok := strings.Cut(text, "because of: "); ok && aborted(err) {
			text = reason
		}
		for _, a := range answers() {
			if rest, ok := strings.CutPrefix(text, a.code); ok && (rest == "" || strings.ContainsAny(rest[:1], " ,:")) {
				return a.kind, a.hint
			}
		}
		return sink.Other, ""
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, redis.ErrPoolTimeout):
		return sink.Timeout, ""
	case errors.As(err, &netErr):
		if netErr.Timeout() {
			return sink.Timeout, ""
		}
		return sink.Connect, ""
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, redis.ErrClosed), errors.Is(err, net.ErrClosed):
		return sink.Connect, ""
	}
	return sink.Other, ""
}

// isAnswer tells what the server said from what happened to the connection.
func isAnswer(err error) bool {
	var e redis.Error
	return errors.As(err, &e)
}

// aborted says that EXEC ran nothing because a command was refused while it was queued, or because of the state that
// the server is in.
func aborted(err error) bool { return redis.HasErrorPrefix(err, "EXECABORT") }
