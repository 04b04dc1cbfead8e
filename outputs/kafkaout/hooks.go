package kafkaout

import (
	"cmp"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/deltaforge/deltaforge/internal/kafkaconn"
	"github.com/deltaforge/deltaforge/internal/sink"
)

// hooks counts what the client does by itself, and keeps why it gets nowhere. The client calls them from many goroutines.
type hooks struct {
	stats *sink.Stats
	log   *service.Logger

	mu        sync.Mutex
	up        map[int32]bool // broker: true when its connection works, false when it broke; guarded by mu
	broken    *sink.Error    // the last failure since a produce request was answered; guarded by mu
	brokeAt   time.Time      // guarded by mu
	throttled time.Time      // when a broker's throttling ends; guarded by mu
	throttler string         // that broker; guarded by mu
}

func newHooks(log *service.Logger, stats *sink.Stats) *hooks {
	return &hooks{stats: stats, log: log, up: map[int32]bool{}}
}

func addr(meta kgo.BrokerMetadata) string {
	return net.JoinHostPort(meta.Host, strconv.Itoa(int(meta.Port)))
}

const produceKey = 0 // Kafka protocol, API key of Produce

// OnBrokerConnect counts a connection that follows a broken one.
func (h *hooks) OnBrokerConnect(meta kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	h.stats.Do(h.log, hookComponent, func() { h.connected(meta, err) })
}

func (h *hooks) connected(meta kgo.BrokerMetadata, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.broken, h.brokeAt = classify(err, "connecting to the broker at "+addr(meta)), time.Now()
	}
	up, seen := h.up[meta.NodeID]
	switch {
	case err == nil && seen && !up:
		h.stats.Reconnected()
		fallthrough
	case err == nil:
		h.up[meta.NodeID] = true
	case seen:
		h.up[meta.NodeID] = false
	}
}

// OnBrokerE2E counts a produce request that broke, which the client repeats.
func (h *hooks) OnBrokerE2E(meta kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	if err := cmp.Or(e2e.WriteErr, e2e.ReadErr); err != nil {
		h.stats.Do(h.log, hookComponent, func() { h.broke(meta, key, err) })
	} else if key == produceKey {
		h.stats.Do(h.log, hookComponent, h.answered)
	}
}

func (h *hooks) broke(meta kgo.BrokerMetadata, key int16, err error) {
	if key == produceKey {
		h.stats.Retried()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.up[meta.NodeID] = false
	c := classify(err, "waiting for the broker at "+addr(meta))
	if c.Kind == sink.Other { // the client's word for a connection that another request has found broken
		c = sink.Errorf(sink.Connect, "waiting for the broker at %s: the connection is lost", addr(meta))
	}
	h.broken, h.brokeAt = c, time.Now()
}

func (h *hooks) answered() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.broken = nil
}

// OnBrokerThrottle notes a broker that lets the client wait for its quota.
func (h *hooks) OnBrokerThrottle(meta kgo.BrokerMetadata, interval time.Duration, _ bool) {
	h.stats.Do(h.log, hookComponent, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.throttled, h.throttler = time.Now().Add(interval), addr(meta)
	})
}

// why returns why the client has made no progress for some time, or nil if the reason is not known.
func (h *hooks) why(since time.Time) *sink.Error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if left := time.Until(h.throttled); left > 0 {
		return sink.Errorf(sink.Backpressure, "the broker at %s lets this client wait: the quota of its user or %s is used up; "+
			"raise producer_byte_rate or request_percentage, or send less", h.throttler, kafkaconn.FieldClientID)
	}
	if h.brokeAt.Before(since) {
		return nil
	}
	return h.broken
}

// lost is told of records that a broker had acknowledged and has lost.
func (h *hooks) lost(topic string, partition int32) {
	h.stats.Do(h.log, lossComponent, func() {
		h.log.With("topic", topic, "partition", partition).
			Warn("The broker has lost records that it had acknowledged; going on with a new producer epoch")
	})
}

var (
	_ kgo.HookBrokerConnect  = (*hooks)(nil)
	_ kgo.HookBrokerE2E      = (*hooks)(nil)
	_ kgo.HookBrokerThrottle = (*hooks)(nil)
	_ kgo.Logger             = demoted{}
)
