package kafkaout

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/deltaforge/deltaforge/internal/sink"
)

// classify gives a client or broker error its kind and, where there is one, the way out. what names what was touched.
func classify(err error, what string) *sink.Error {
	if known, ok := errors.AsType[*sink.Error](err); ok {
		return known
	}
	kind, hint := kindOf(err)
	return sink.Explain(kind, what, err, hint)
}

//nolint:gocyclo,cyclop // one table
func kindOf(err error) (kind sink.Kind, hint string) {
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	var (
		netErr   net.Error
		firstEOF *kgo.ErrFirstReadEOF
		dataLoss *kgo.ErrDataLoss
	)
	switch {
	case is(kerr.SaslAuthenticationFailed, kerr.UnsupportedSaslMechanism, kerr.IllegalSaslState):
		return sink.Auth, "check sasl.mechanism, sasl.username and sasl.password"
	case is(kerr.TopicAuthorizationFailed):
		return sink.Permission, "grant Write and Describe on the topic to this user"
	case is(kerr.ClusterAuthorizationFailed):
		return sink.Permission, "grant IdempotentWrite, and Create where create_topics is enabled, on the cluster to this user"
	case is(kerr.TransactionalIDAuthorizationFailed, kerr.GroupAuthorizationFailed, kerr.DelegationTokenAuthorizationFailed):
		return sink.Permission, ""
	case is(kerr.MessageTooLarge, kerr.RecordListTooLarge):
		return sink.TooLarge, "raise max.message.bytes of the topic, or route large records elsewhere"
	case is(kerr.UnknownTopicOrPartition, kerr.UnknownTopicID):
		return sink.UnknownTopic, unknownTopicHint
	case is(kerr.InvalidTopicException):
		return sink.Routing, "the broker takes no topic of this name: rename the table or the topic that it collides with, or set " + fieldTopic
	case is(kerr.InvalidRecord):
		return sink.Serialization, "a compacted topic takes no record without a key: give the table a key, or set " + fieldKey
	case is(kerr.InvalidTimestamp):
		return sink.Serialization, "the commit time is further from the broker's clock than the topic allows: raise its message.timestamp.before.max.ms " +
			"or message.timestamp.after.max.ms, or set message.timestamp.type=LogAppendTime"
	case is(kerr.CorruptMessage):
		return sink.Serialization, "it was damaged on its way: look at the network"
	case is(kerr.UnsupportedForMessageFormat):
		return sink.Serialization, "the topic has a message format from before Kafka 0.11, which has no headers: raise its message.format.version"
	case is(kerr.ProducerFenced, kerr.InvalidProducerEpoch, kerr.OutOfOrderSequenceNumber, kerr.UnknownProducerID) ||
		errors.As(err, &dataLoss):
		return sink.Fenced, ""
	case is(kerr.ThrottlingQuotaExceeded):
		return sink.Backpressure, "the quota of this user or client_id is used up: raise controller_mutation_rate or producer_byte_rate"
	case is(kgo.ErrMaxBuffered):
		return sink.Backpressure, ""
	case is(kerr.PolicyViolation):
		return sink.Other, "a policy of the broker forbids it"
	case is(kgo.ErrRecordTimeout, kerr.RequestTimedOut, context.DeadlineExceeded):
		return sink.Timeout, ""
	case errors.As(err, &firstEOF):
		return sink.Connect, "the broker closed the connection at once: check tls and sasl against its listener"
	case is(kgo.ErrClientClosed, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, kerr.BrokerNotAvailable, kerr.LeaderNotAvailable,
		kerr.NotLeaderForPartition, kerr.NotEnoughReplicas, kerr.NetworkException):
		return sink.Connect, ""
	case errors.As(err, &netErr):
		if netErr.Timeout() {
			return sink.Timeout, ""
		}
		return sink.Connect, ""
	}
	return sink.Other, ""
}

const unknownTopicHint = "create the topic, or set create_topics.enabled: true"

// permanent says that the broker refuses the record for what it is, so that another try cannot help. All other
// failures are tried again, in order.
func permanent(kind sink.Kind, cause error) bool {
	switch kind {
	case sink.TooLarge, sink.Routing:
		return true
	case sink.Serialization:
		return !errors.Is(cause, kerr.CorruptMessage) // damaged on the way
	default:
		return false
	}
}
