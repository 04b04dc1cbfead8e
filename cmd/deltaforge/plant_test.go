package main

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/coordinator"
	"github.com/deltaforge/deltaforge/internal/testenv/plant"
	"github.com/deltaforge/deltaforge/metrics"
)

// plantVariable tells the program under test where to panic, as entries of package plant, with commas between them.
const plantVariable = "DELTAFORGE_TEST_PLANT"

// plantPanics puts components of the test into the program: the source test_log, and our exporter with panics in it.
func plantPanics(plan string) {
	service.MustRegisterBatchInput("test_log", service.NewConfigSpec().Fields(coordinator.Fields()...).
		Field(service.NewStringField("panic").Default("")),
		func(conf *service.ParsedConfig, res *service.Resources) (service.BatchInput, error) {
			c, err := coordinator.ParseConfig(conf)
			if err != nil {
				return nil, err
			}
			l := &testLog{}
			l.where, err = conf.FieldString("panic")
			if err != nil {
				return nil, err
			}
			return coordinator.New(c, "test", l, res)
		})
	if plan == "" {
		return
	}
	p := plant.New(strings.Split(plan, ",")...)
	service.MustRegisterMetricsExporter("deltaforge", metrics.Spec(), func(conf *service.ParsedConfig, log *service.Logger) (service.MetricsExporter, error) {
		inner, err := metrics.New(conf, log)
		return p.Around(inner), err
	})
}

// testLog is a change log without a database: a row every few milliseconds. It panics once where it is told to, or ends once.
type testLog struct {
	where string
	once  sync.Once
	n     atomic.Int64
}

var errTestLog = errors.New("the log of the test ends")

func (l *testLog) explode(where string) {
	if where == l.where {
		l.once.Do(func() { panic("planted in " + where) })
	}
}

func (l *testLog) Confirm(checkpoint.Token) { l.explode("confirm") }

// Test implements coordinator.Tester.
func (l *testLog) Test(context.Context) error { return nil }

func (l *testLog) LagBytes() (int64, bool) { l.explode("lag"); return 7, true }

func (l *testLog) Run(ctx context.Context, from checkpoint.Token, out chan<- coordinator.Segment) error {
	l.explode("log")
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	first := coordinator.Segment{Source: "test"}
	if from.IsZero() {
		first.Commit = checkpoint.Text("tx0")
	}
	for seg, sent := first, 0; ; sent++ {
		select {
		case out <- seg:
		case <-ctx.Done():
			return ctx.Err()
		}
		if sent == 20 && l.where == "end" {
			end := false
			if l.once.Do(func() { end = true }); end {
				return errTestLog
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		position := checkpoint.Text("tx" + strconv.FormatInt(l.n.Add(1), 10))
		seg = coordinator.Segment{
			Source: "test", Commit: position, CommitTime: time.Now(), ReadAt: time.Now(), Bytes: 10,
			Rows: testRow{l, string(position)},
		}
	}
}

type testRow struct {
	log      *testLog
	position string
}

func (r testRow) Decode(_ context.Context, dst service.MessageBatch) (service.MessageBatch, error) {
	r.log.explode("decode")
	source := &change.Source{Connector: "test", Name: "test", Version: "test"}
	return append(slices.Clip(dst), change.NewMessage(&change.Event{
		Op: change.Create, Index: 1, Origin: &change.Origin{ReadAt: time.Now(), Tx: &change.Tx{ID: "t", Position: r.position, CommitTime: time.Now()}},
		Table: &change.Table{Source: source, Database: "db", Name: "t", Columns: []change.Column{{Name: "id"}}},
	}, []byte("{}"), nil)), nil
}
