package testenv

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/deltaforge/deltaforge/internal/servers/binaries"
)

// DebeziumRecord is a record of Debezium, as its JSON converter writes it. A nil Key or Value is Kafka's null.
type DebeziumRecord struct {
	Topic      string
	Key, Value []byte
	Headers    map[string]string
}

// Debezium is a connector of Debezium that runs.
type Debezium struct {
	records chan DebeziumRecord
	log     string
	failed  chan string
	cmd     *exec.Cmd
	in      io.Closer
	done    chan struct{} // closed when it has ended
}

// Kill ends the JVM at once, and returns what it has printed and nobody has read.
func (d *Debezium) Kill() []DebeziumRecord {
	_ = d.cmd.Process.Kill()
	return d.rest()
}

// Stop ends the connector, which saves its offsets, and returns what it has printed and nobody has read.
func (d *Debezium) Stop() []DebeziumRecord {
	_ = d.in.Close()
	return d.rest()
}

func (d *Debezium) rest() (all []DebeziumRecord) {
	for {
		select {
		case r := <-d.records:
			all = append(all, r)
		case <-d.done:
			for {
				select {
				case r := <-d.records:
					all = append(all, r)
				default:
					return all
				}
			}
		}
	}
}

// StartDebezium runs a connector in a JVM until the end of the test. It keeps its offsets in memory.
func StartDebezium(t testing.TB, properties map[string]string) *Debezium {
	t.Helper()
	skipShort(t)
	jars, err := binaries.Debezium()
	if err != nil {
		unavailable(t, err)
	}
	java, err := binaries.Java()
	if err != nil {
		unavailable(t, err)
	}
	dir := t.TempDir()
	all := map[string]string{
		"name": "reference", "topic.prefix": "reference", "max.batch.size": "1000", "poll.interval.ms": "50",
		"offset.storage":           "org.apache.kafka.connect.storage.MemoryOffsetBackingStore",
		"offset.flush.interval.ms": "60000",
		"schema.history.internal":  "io.debezium.relational.history.MemorySchemaHistory",
		"schema.history.internal.store.only.captured.tables.ddl": "true",
		// On a shared server there are statements of other tests in the log that Debezium's parser does not know.
		"schema.history.internal.skip.unparseable.ddl": "true",
		"key.converter.schemas.enable":                 "false",
		"value.converter.schemas.enable":               "false",
		"header.converter.schemas.enable":              "false",
	}
	maps.Copy(all, properties)
	var text strings.Builder
	for _, k := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&text, "%s=%s\n", k, strings.ReplaceAll(all[k], `\`, `\\`))
	}
	file := filepath.Join(dir, "connector.properties")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	d := &Debezium{records: make(chan DebeziumRecord, 10_000), log: filepath.Join(dir, "log"), failed: make(chan string, 1)}
	d.run(t, exec.CommandContext(context.WithoutCancel(t.Context()), java, "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
		"-cp", jars+string(filepath.ListSeparator)+filepath.Join(jars, "*"), "Engine", file))
	return d
}

// run starts the JVM and reads what it prints. It ends when its input does.
func (d *Debezium) run(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	log, err := os.Create(d.log)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = log
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting Debezium: %v", err)
	}
	done := make(chan struct{})
	d.cmd, d.in, d.done = cmd, in, done
	go func() {
		defer close(done)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 64<<20)
		for lines.Scan() {
			d.line(lines.Text())
		}
	}()
	t.Cleanup(func() {
		_ = in.Close()
		select {
		case <-done:
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			<-done
		}
		_ = cmd.Wait()
		_ = log.Close()
	})
}

func (d *Debezium) line(line string) {
	fields := strings.Fields(line)
	if len(fields) > 1 && fields[0] == "end" {
		select {
		case d.failed <- string(bytesOf(fields[1])):
		default:
		}
	}
	if len(fields) < 4 || fields[0] != "record" {
		return
	}
	r := DebeziumRecord{Topic: string(bytesOf(fields[1])), Key: bytesOf(fields[2]), Value: bytesOf(fields[3]), Headers: map[string]string{}}
	for _, h := range fields[4:] {
		name, value, _ := strings.Cut(string(bytesOf(h)), "=")
		r.Headers[name] = value
	}
	d.records <- r
}

func bytesOf(field string) []byte {
	if field == "-" {
		return nil
	}
	b, err := base64.StdEncoding.DecodeString(field)
	if err != nil {
		return []byte(err.Error())
	}
	return b
}

// Until returns the records up to and with the first for which last is true.
func (d *Debezium) Until(t testing.TB, last func(DebeziumRecord) bool) (all []DebeziumRecord) {
	t.Helper()
	timeout := time.After(wait)
	for {
		select {
		case r := <-d.records:
			all = append(all, r)
			if last(r) {
				return all
			}
		case why := <-d.failed:
			t.Fatalf("Debezium has ended: %s\n%s", why, d.tail())
		case <-timeout:
			t.Fatalf("Debezium has not delivered what is awaited, but %d records\n%s", len(all), d.tail())
		}
	}
}

func (d *Debezium) tail() string {
	b, _ := os.ReadFile(d.log)
	return string(b[max(0, len(b)-4000):])
}
