package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
)

// formatsCase is mysql_drop with other formats, and with a processor in between, beside the native one.
func formatsCase(ctx context.Context, s *suite, _ map[string]bool) (err error) {
	load, err := newMySQLLoader(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, load.db.Close()) }()
	rows := s.rows(1_000_000)
	from, err := load.load(ctx, s, ordersMySQL("orders_formats"), rows)
	if err != nil {
		return err
	}
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			http.Error(w, `{"error_code":40401,"message":"not found"}`, http.StatusNotFound)
			return
		}
		_, _ = io.WriteString(w, `{"id":1}`)
	}))
	defer registry.Close()
	drop := func(name, config, format string) variant {
		d := mysqlDrain(load.server, config, from, benchDB+".orders_formats", rows)
		d.env["FORMAT"], d.env["REGISTRY"], d.profile = format, registry.URL, name
		return variant{name, func(ctx context.Context, _ int) (sample, error) { return d.run(ctx, s) }}
	}
	got, err := s.alternate(ctx, drop("native", "formats.yaml", "native"), drop("row", "formats.yaml", "row"), drop("debezium", "formats.yaml", "debezium"),
		drop("avro", "formats.yaml", "avro"), drop("protobuf", "formats.yaml", "protobuf"), drop("filter", "filter.yaml", "native"))
	if err != nil {
		return err
	}
	for _, c := range []struct {
		name  string
		least float64
	}{{"row", 0.9}, {"debezium", 0.9}, {"avro", 0.8}, {"protobuf", 0.8}, {"filter", 0.95}} {
		s.report("formats: "+c.name, "rows/s", got[c.name], got["native"], ratioAtLeast(c.least))
	}
	return nil
}
