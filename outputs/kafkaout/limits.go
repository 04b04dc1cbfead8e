package kafkaout

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/deltaforge/deltaforge/internal/sink"
)

// limits are the settings of a topic that make a broker refuse records. The zero value allows everything.
type limits struct {
	asked     time.Time
	compacted bool
	stamped   bool          // the broker sets the timestamps
	size      int           // max.message.bytes; 0: not known
	before    time.Duration // how far a timestamp may be in the past; 0: as far as it likes
	after     time.Duration // how far in the future
	past      string        // the setting that before comes from
	future    string        // the setting that after comes from
}

// limitsOf asks for the limits of a topic, unless it has asked lately. If the user may not ask, no limits are known: then what
// the broker refuses is taken apart until the culprit is alone.
func (t *topics) limitsOf(ctx context.Context, cl *kgo.Client, name string) limits {
	t.mu.Lock()
	l, ok := t.limits[name]
	t.mu.Unlock()
	if ok && time.Since(l.asked) < askAgain {
		return l
	}
	l = limits{}
	found, err := kadm.NewClient(cl).DescribeTopicConfigs(ctx, name)
	if err == nil && len(found) == 1 && found[0].Err == nil {
		for _, c := range found[0].Configs {
			l.set(c.Key, c.MaybeValue())
		}
	}
	l.asked = time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.limits) >= maxTopicsNamed {
		clear(t.limits)
	}
	t.limits[name] = l
	return l
}

// set takes in a setting of a topic. Newer brokers still list the oldest setting for timestamps; it counts only where the newer settings
// leave a limit open.
func (l *limits) set(key, value string) {
	n, err := strconv.ParseInt(value, 10, 64)
	ms := time.Duration(0) // none
	if err == nil && n > 0 && n < int64(1<<63-1)/int64(time.Millisecond) {
		ms = time.Duration(n) * time.Millisecond
	}
	switch key {
	case "cleanup.policy":
		l.compacted = strings.Contains(value, "compact")
	case "message.timestamp.type":
		l.stamped = value == "LogAppendTime"
	case "max.message.bytes":
		l.size = int(n)
	case "message.timestamp.before.max.ms":
		if ms > 0 {
			l.before, l.past = ms, key
		}
	case "message.timestamp.after.max.ms":
		if ms > 0 {
			l.after, l.future = ms, key
		}
	case "message.timestamp.difference.max.ms":
		if ms > 0 && l.past == "" && l.future == "" {
			l.before, l.past, l.after, l.future = ms, key, ms, key
		}
	}
}

// broken returns which limit a refused record exceeds, or nil if none is known. compressed means that the size on the wire is not the size
// of the record.
func (l *limits) broken(r *kgo.Record, size int, compressed bool, now time.Time) *sink.Error {
	age := now.Sub(r.Timestamp)
	switch {
	case l.compacted && r.Key == nil:
		return sink.Errorf(sink.Serialization, "topic %s is compacted, and the record has no key; give the table a key, or set %s", r.Topic, fieldKey)
	case l.size > 0 && size+recordOverhead > l.size && !compressed:
		return sink.Errorf(sink.TooLarge, "topic %s: the record has %d bytes and the topic's max.message.bytes is %d; raise it, or route large "+
			"records elsewhere", r.Topic, size+recordOverhead, l.size)
	case l.before > 0 && !l.stamped && !r.Timestamp.IsZero() && age > l.before:
		return sink.Errorf(sink.Serialization, "topic %s: the change was committed %s ago and the topic's %s is %d; raise it, or set "+
			"message.timestamp.type=LogAppendTime", r.Topic, age.Round(time.Millisecond), l.past, l.before.Milliseconds())
	case l.after > 0 && !l.stamped && !r.Timestamp.IsZero() && -age > l.after:
		return sink.Errorf(sink.Serialization, "topic %s: the change's commit time is %s in the future and the topic's %s is %d; look at the clocks "+
			"of the database and of the broker", r.Topic, (-age).Round(time.Millisecond), l.future, l.after.Milliseconds())
	}
	return nil
}
