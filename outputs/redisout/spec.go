package redisout

import (
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/deadletter"
	"github.com/deltaforge/deltaforge/internal/sink"
)

func spec() *service.ConfigSpec {
	s := service.NewConfigSpec().
		Categories("Services").
		Version("0.1.0").
		Summary("Writes change events to Redis streams, in order, or keeps a live copy of each row.").
		Description(description).
		Fields(serverFields()...).
		Fields(topologyFields()...).
		Fields(entryFields()...).
		Fields(
			service.NewOutputMaxInFlightField().Default(1).
				Description("How many batches may be on their way at once. Above 1, a batch can be added before an earlier one that had to be repeated: order is then kept inside a batch only."),
			sink.BatchingField(fieldBatching),
			deadletter.Field(),
			sink.ExactlyField(fieldExactly, "The position is the key `<prefix>:checkpoint:<key of the source>` beside the streams, set in the transaction (`MULTI`, `EXEC`) that adds the entries."),
		).
		LintRule(sink.ExactlyRule)
	for _, e := range examples() {
		s = s.Example(e.title, e.summary, e.yaml)
	}
	return s
}

const description = `
Each message becomes one stream entry with four fields: ` + "`event_id`, `op`, `key`" + ` (metadata, empty where a message lacks them) and ` +
	"`event`" + ` (the payload). The DeltaForge inputs set this metadata, and any other input can.

== Delivery

A batch is acknowledged when the server has added every entry of it (at-least-once). An answer that is lost with its connection,
and a restart of the process, can leave entries twice; they carry the same ` + "`event_id`" + `. Redis acknowledges before it has written to its
disk or to a replica: what survives its crash is up to ` + "`appendfsync`" + ` and ` + "`min-replicas-to-write`" + `. Run it with
` + "`maxmemory-policy noeviction`" + `: any other policy may throw streams away.

While the server cannot be reached, is out of memory, or is a replica, the output waits and tries again without end. Nothing is
dropped. It shows as not connected meanwhile, with the reason.

An entry that can never be added fails alone, and the others of its batch are delivered: one that is larger than
` + "`max_message_bytes`" + `, one whose stream cannot be told, is the name of a key of another type, or has no ids left, and a message that carries the error
of an earlier step. Use a ` + "`fallback`" + ` output to keep such messages; without one the input delivers them again, for ever.

== Order

With ` + "`max_in_flight: 1`" + ` (the default) the entries of a stream are added in the order of the messages, through retries and partial
failures: they go out in transactions (` + "`MULTI`, `EXEC`" + `) of at most ` + "`max_buffered_bytes`" + `, each after the answer to the one before, so
that a server that runs out of memory in the middle refuses a whole transaction and not some entries of it.

When a connection is lost, what was sent through it can still be on its way, in a proxy or in a server that is paused, and can arrive
late. So a new connection first raises a guard key (` + "`INCR`" + `), and each connection watches it (` + "`WATCH`" + `): from then on the server runs no
transaction of an older connection, also not of a process that was killed. The field ` + "`guard_key`" + ` names the key.

== Sentinel and Cluster

The output writes to one primary. With ` + "`kind: failover`" + ` it is the one that Sentinel names, with ` + "`kind: cluster`" + ` the one that has the slot of the output's keys. When another server takes over, the
output goes on there. Redis replicates after it has acknowledged: what the primary had and no replica, is lost with it. ` + "`min-replicas-to-write 1` and `min-replicas-max-lag`" + ` on the primary bound
that: without a replica that answers, it refuses to write, and the output waits. They do not make it zero.

With ` + "`exactly_once`" + ` the position is in the same transaction as the entries, so a server that has lost entries has lost their position, too. The output sees that, the source stops as
` + "`fenced`" + `, and says that the sink has lost what came after it. When it is started again, it goes on from the position that is left: all that was lost is delivered again. With at-least-once delivery
it is not seen.

In a Cluster all keys of an output are in one slot: those of the entries, the guard key, and the key of the position. So ` + "`prefix`" + ` needs a hash tag, such as ` + "`{shop}`" + `. What goes to another slot fails alone.

== A live copy of each row

With ` + "`write: hash` or `write: string`" + ` Redis has what the tables have, whenever the stream has caught up: an insert, an update and a row of a snapshot set the key of the row, a delete removes
it, a changed primary key removes the old key, and a truncate removes the keys of the table. Between two commits a reader sees rows as they were at some moment after the first.

* The key is ` + "`<prefix>:<schema or database>.<table>:<primary key>`" + `, or what the field ` + "`key`" + ` says. In a primary key of several columns the values are joined by colons. A percent sign or a colon in them, and
  in the name of a table, is written ` + "`%25` or `%3A`" + `.
* A hash has text and JSON as they are, binary data as its bytes, and everything else as in the native format. A NULL has no field. A value that the log does not carry (unchanged TOAST, row image MINIMAL)
  leaves its field as it is.
* A string holds one JSON object, and is written whole: an event without all values is refused. Use a hash there.
* A table without a key is refused. Changes of a table's shape and logical messages change nothing: a column that was dropped stays in a hash until its row is written again.
* An event that is delivered again sets the same row again. After a crash a key can for a moment be at an older state, until the events after it have come again, too.
* What is in Redis from before, and not in the table, stays, unless ` + "`prune`" + ` is on: then the end of a snapshot removes it.

` + "`invalidate`" + ` deletes the keys of the rows that change, the old and the new one. ` + "`list` and `publish`" + ` write whole events, at-least-once; what is published reaches only who listens at that moment.

== Permissions

For other modes than ` + "`stream`" + `, replace ` + "`+xadd`" + ` below by ` + "`+hset +hdel +pexpire +unlink +scan` (hash), `+set +unlink +scan` (string), `+unlink +scan` (invalidate), `+rpush` (list) or `+publish` with the channels (publish)" + `. ` + "`prune` needs `+hget +hgetall +hset +sadd +sismember`, and `key` needs `+zadd +zrem +zscan +zremrangebyscore`" + ` besides.

A user needs ` + "`+multi +exec +xadd +incr +watch`" + `, the keys of the streams and the guard key (` + "`~<prefix>:*`" + ` has both). No right to run scripts is needed. With ` + "`exactly_once`" + `
it is ` + "`+multi +exec +xadd +watch +get +mget +set +del +type`" + `, and the key of the position in place of the guard key.

== Errors

Each error ends with its kind, which is also the label of ` + "`sink_failures_total`" + `: auth, permission, connect, timeout, serialization,
routing, too_large, backpressure, out_of_memory, readonly, other.
`

type example struct{ title, summary, yaml string }

// examples are shown on the reference page, and linted by a test.
func examples() []example {
	return []example{
		{
			"Changes of a database, one stream a table",
			"Every table gets the stream `shop:<schema or database>.<table>`, which keeps about a million entries.",
			`
output:
  deltaforge_redis:
    url: redis://localhost:6379
    prefix: shop
    max_len: 1000000
`,
		},
		{
			"A cache that never goes stale",
			"The row of shop.customers with the id 7 is the hash `cache:shop.customers:7`.",
			`
output:
  deltaforge_redis:
    url: redis://localhost:6379
    prefix: cache
    write: hash
`,
		},
		{
			"A user of its own, TLS, and one stream a tenant",
			"The password is taken from the environment, and the stream from each message.",
			`
output:
  deltaforge_redis:
    url: rediss://redis.example.com:6380/0
    username: deltaforge
    password: ${REDIS_PASSWORD}
    stream: changes:${! json("after.tenant_id").or("none") }
`,
		},
	}
}

func serverFields() []*service.ConfigField {
	return []*service.ConfigField{
		service.NewStringField(fieldURL).Secret().
			Description("The server: `redis://[user[:password]@]host[:port][/db]`, `rediss://...` for TLS, or `unix:///path/to/socket?db=0`. Special characters in a password are percent-encoded; `username` and `password` take them as they are.").
			Example("redis://localhost:6379").Example("rediss://redis.example.com:6380/2").Example("unix:///run/redis/redis.sock"),
		service.NewStringField(fieldUsername).Default("").
			Description("The ACL user, where it is not in the URL. Empty for the default user."),
		service.NewStringField(fieldPassword).Default("").Secret().
			Description("The password, where it is not in the URL."),
		service.NewTLSToggledField(fieldTLS).
			Description("TLS settings. A `rediss://` URL turns TLS on by itself; this field is for certificates of one's own."),
		service.NewDurationField(fieldTimeout).Default("10s").Advanced().
			Description("How long the server may take to answer a transaction, before the connection is given up and the transaction repeated."),
		service.NewDurationField(fieldConnectTimeout).Default("10s").Advanced().
			Description("How long one attempt to connect may take."),
	}
}

func entryFields() []*service.ConfigField {
	return []*service.ConfigField{
		service.NewStringAnnotatedEnumField(fieldWrite, writeModes()).Default(writeStream).
			Description("What is written for each event."),
		service.NewDurationField(fieldTTL).Optional().
			Description("How long a copy (`hash`, `string`) lives after the last event of its row. Where it is not set, it lives until the row is deleted.").
			Example("24h"),
		service.NewInterpolatedStringField(fieldKey).Optional().
			Description("The key of a row, in place of `<prefix>:<schema or database>.<table>:<primary key>`, for `hash`, `string` and `invalidate`. The interpolation has the row as its content, in the native format, and the " +
				"metadata of the event. No two rows may have the same key. The columns that it is made of have to be in the log, of the old row too: those that are not in the primary key want " +
				"`binlog_row_image=FULL` or `REPLICA IDENTITY FULL`, and an event without them fails alone. The keys of each table are kept in a sorted set, `<prefix>:keys:<schema or database>.<table>`, " +
				"so that a truncate and `prune` find them.").
			Example(`customer:${! json("email") }`),
		service.NewBoolField(fieldPrune).Default(false).
			Description("Remove from the copies (`hash`, `string`) of a table what it does not have, when a snapshot has loaded it: rows that were removed while nobody followed the log. Meanwhile Redis keeps the " +
				"keys that were written in a set, `<prefix>:loads:<schema or database>.<table>`. What the stream writes during the load stays, and so does all that is not under the keys of the table. A load of some rows only " +
				"(`where`) removes nothing, and neither does one whose set Redis has lost. The source has to be in the same pipeline."),
		service.NewInterpolatedStringField(fieldStream).Optional().
			Description("The stream of each entry. Where it is not set, it is `<prefix>:<schema_name or database>.<table>`. Either this field or `prefix` has to be set.").
			Example("changes").Example(`changes:${! metadata("table") }`),
		service.NewStringField(fieldPrefix).Default("").
			Description("The first part of the default stream.").Example("shop"),
		service.NewStringField(fieldGuardKey).Default("").Advanced().
			Description("The key that a new connection raises (`INCR`), so that the server refuses what a lost connection still has on its way. It holds a number. Where the field is empty, the key is `<prefix>:guard`; for a `stream` without interpolations `{<stream>}:guard`, or `<stream>:guard` where its name has a hash tag; else `deltaforge:guard`. Pipelines may share it."),
		service.NewIntField(fieldMaxLen).Default(0).
			Description("How many entries a stream keeps; older ones are removed as new ones are added. 0 keeps all. The server may keep some more, which costs it much less (`MAXLEN ~`)."),
		service.NewBoolField(fieldExactMaxLen).Default(false).Advanced().
			Description("Keep exactly `max_len` entries (`MAXLEN =`)."),
		service.NewInterpolatedStringField(fieldMinID).Optional().Advanced().
			Description("Trim a stream by the age of its entries: those with a smaller id are removed as new ones are added (`MINID ~`). The first part of an id is the server's time in " +
				"milliseconds. It goes without `max_len`.").
			Example(`${! timestamp_unix_milli() - 86400000 }`),
		service.NewBoolField(fieldRejectErrored).Default(true).Advanced().
			Description("Refuse messages that carry the error of an earlier step, each alone. Turn it off for an output that collects such messages."),
		service.NewIntField(fieldMaxMessageBytes).Default(64 << 20).Advanced().
			Description("The most bytes that an entry may have, with about 256 bytes of framing. Larger ones fail with kind `too_large`. Keep it below the server's `proto-max-bulk-len`."),
		service.NewIntField(fieldMaxBuffered).Default(1 << 20).Advanced().
			Description("How many bytes of entries go out in one transaction, during which the server does nothing else. An entry that alone is larger is sent alone. Times `max_in_flight`, it is the value of `sink_buffer_limit_bytes`."),
	}
}
