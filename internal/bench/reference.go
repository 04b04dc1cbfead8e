package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The references are processes of their own, so that their CPU time and memory are theirs alone. Each prints what it has
// measured as JSON.
type measured struct {
	Rows    int     `json:"rows"`
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpu_seconds"`
}

func runReference(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("reference: want a name")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	addr := flags.String("addr", "", "the server")
	user := flags.String("user", "", "the account")
	password := flags.String("password", "", "its password")
	from := flags.String("from", "", "the GTID set to start after, or the topic or stream to take the payloads from")
	to := flags.String("to", "", "the topic or stream to write to")
	rows := flags.Int("rows", 0, "how many rows")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	var m measured
	var err error
	switch args[0] {
	case "go-mysql":
		m, err = decodeBinlog(ctx, *addr, *user, *password, *from, *rows, false)
	case "mysql-raw":
		m, err = decodeBinlog(ctx, *addr, *user, *password, *from, *rows, true)
	case "kgo":
		m, err = produce(ctx, *addr, *from, *to, *rows)
	case "go-redis":
		m, err = addEntries(ctx, *addr, *from, *to, *rows)
	case "hset":
		m, err = setHashes(ctx, *addr, *from, *to, *rows)
	default:
		err = fmt.Errorf("reference: there is no %q", args[0])
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(m)
}

// cpuSeconds is the CPU time of this process.
func cpuSeconds() float64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail with these arguments
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// decodeBinlog has go-mysql decode rows to []any, and does nothing with them. When raw is set it decodes nothing and counts commits:
// what the server can send.
func decodeBinlog(ctx context.Context, addr, user, password, from string, rows int, raw bool) (measured, error) {
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return measured{}, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return measured{}, err
	}
	set, err := mysql.ParseMysqlGTIDSet(from)
	if err != nil {
		return measured{}, err
	}
	syncer := replication.NewBinlogSyncer(replication.BinlogSyncerConfig{
		ServerID: 77, Flavor: "mysql", Host: host, Port: uint16(port), User: user, Password: password, Logger: slog.New(slog.DiscardHandler),
		RawModeEnabled: raw,
	})
	defer syncer.Close()
	cpu, began := cpuSeconds(), time.Now()
	stream, err := syncer.StartSyncGTID(set)
	if err != nil {
		return measured{}, fmt.Errorf("starting the dump: %w", err)
	}
	n := 0
	for n < rows {
		ev, err := stream.GetEvent(ctx)
		if err != nil {
			return measured{}, fmt.Errorf("%d of %d rows: %w", n, rows, err)
		}
		if e, ok := ev.Event.(*replication.RowsEvent); ok {
			n += len(e.Rows)
		}
		if raw && ev.Header.EventType == replication.XID_EVENT {
			n++
		}
	}
	return measured{Rows: n, Seconds: time.Since(began).Seconds(), CPU: cpuSeconds() - cpu}, nil
}

// samplePayloads is how many records or entries a reference keeps in memory and sends over and over.
const samplePayloads = 50_000

// produce writes records that another topic has, over and over, as fast as the brokers take them.
func produce(ctx context.Context, addr, from, to string, rows int) (measured, error) {
	records, err := consume(ctx, addr, from, min(rows, samplePayloads))
	if err != nil {
		return measured{}, err
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(addr, ",")...), kgo.DefaultProduceTopic(to),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerBatchMaxBytes(1_000_000),
		kgo.MaxBufferedRecords(20_000))
	if err != nil {
		return measured{}, err
	}
	defer client.Close()
	if err := client.Ping(ctx); err != nil {
		return measured{}, err
	}
	var failed error
	done := func(_ *kgo.Record, err error) { // called by one goroutine at a time for one partition
		if err != nil {
			failed = err
		}
	}
	cpu, began := cpuSeconds(), time.Now()
	for i := range rows {
		r := records[i%len(records)]
		client.Produce(ctx, &kgo.Record{Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: r.Timestamp}, done)
	}
	if err := errors.Join(client.Flush(ctx), failed); err != nil {
		return measured{}, fmt.Errorf("producing: %w", err)
	}
	return measured{Rows: rows, Seconds: time.Since(began).Seconds(), CPU: cpuSeconds() - cpu}, nil
}

// consume reads the first n records of a topic.
func consume(ctx context.Context, addr, topic string, n int) (records []*kgo.Record, err error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(addr, ",")...), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	for len(records) < n {
		fetches := client.PollFetches(ctx)
		if err := errors.Join(fetches.Err(), ctx.Err()); err != nil {
			return nil, fmt.Errorf("reading %s: %w", topic, err)
		}
		records = append(records, fetches.Records()...)
	}
	return records[:n], nil
}

// pipelineDepth is how many commands go out before the answers are read.
const pipelineDepth = 1000

// addEntries adds the entries that another stream has, over and over, in pipelines.
func addEntries(ctx context.Context, addr, from, to string, rows int) (measured, error) {
	client := redis.NewClient(&redis.Options{Addr: addr})
	defer client.Close()
	entries, err := client.XRangeN(ctx, from, "-", "+", int64(min(rows, samplePayloads))).Result()
	if err != nil {
		return measured{}, fmt.Errorf("reading %s: %w", from, err)
	}
	if len(entries) == 0 {
		return measured{}, fmt.Errorf("the stream %s is empty", from)
	}
	values := make([][]any, len(entries))
	for i, e := range entries {
		for _, field := range []string{"event_id", "op", "key", "event"} {
			values[i] = append(values[i], field, e.Values[field])
		}
	}
	cpu, began := cpuSeconds(), time.Now()
	for n := 0; n < rows; {
		pipe := client.Pipeline()
		for range min(pipelineDepth, rows-n) {
			pipe.XAdd(ctx, &redis.XAddArgs{Stream: to, Values: values[n%len(values)]})
			n++
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return measured{}, fmt.Errorf("adding entries: %w", err)
		}
	}
	return measured{Rows: rows, Seconds: time.Since(began).Seconds(), CPU: cpuSeconds() - cpu}, nil
}
