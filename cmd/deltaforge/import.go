package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"
	"gopkg.in/yaml.v3"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/connectoffsets"
	"github.com/deltaforge/deltaforge/internal/control"
	contract "github.com/deltaforge/deltaforge/internal/plane"
)

const (
	debeziumFlag = "debezium"
	serverFlag   = "server"
)

// importCommand takes over the offset of a connector of Debezium.
func importCommand() *cli.Command {
	return &cli.Command{
		Name: "import", Usage: "Take over the offset of a connector of Debezium, which has stopped",
		Description: "Looks into the log of the source's server for how much of the transaction in which the connector has stopped is delivered, and saves the position " +
			"after it. Nothing is changed on the server. The source must have no position yet. Of PostgreSQL the source needs the connector's slot and publication.",
		Flags: []cli.Flag{
			&cli.StringFlag{
				Name: debeziumFlag, Required: true, Usage: "a file with the offset, or - for the standard input: offset.storage.file.filename, records of the offsets " +
					"topic as kafka-console-consumer prints them with --property print.key=true, the answer of GET /connectors/NAME/offsets, or the offset alone",
			},
			&cli.StringFlag{Name: serverFlag, Usage: "the topic.prefix of the connector, where the file has several offsets"},
			&cli.StringFlag{Name: configOfPositions, Aliases: []string{"c"}, Required: true, Usage: "the configuration of the pipeline"},
			&cli.StringSliceFlag{Name: resourcesOf, Aliases: []string{"r"}, Usage: "a file of shared resources that the configuration refers to; may be repeated"},
		},
		Action: importDebezium,
	}
}

func importDebezium(c *cli.Context) error {
	var data []byte
	var err error
	if file := c.String(debeziumFlag); file == "-" {
		data, err = io.ReadAll(c.App.Reader)
	} else {
		data, err = os.ReadFile(file)
	}
	if err != nil {
		return err
	}
	all, err := connectoffsets.Read(data)
	if err != nil {
		return fmt.Errorf("--%s: %w", debeziumFlag, err)
	}
	offset, err := connectoffsets.Choose(all, c.String(serverFlag))
	if err != nil {
		return fmt.Errorf("--%s: %w", debeziumFlag, err)
	}
	file := c.String(configOfPositions)
	record, err := handOver(c.Context, file, offset.Value)
	if err != nil {
		return err
	}
	return (&configured{create: true, f: func(ctx context.Context, key string, k keeper) error {
		switch _, err := k.Peek(ctx, key); {
		case err == nil:
			return fmt.Errorf("key %q has a position already; to take the connector's in its place: deltaforge checkpoint reset %s --%s %s", key, key, configOfPositions, file)
		case !errors.Is(err, checkpoint.ErrNotFound):
			return err
		}
		if err := k.Put(ctx, key, record); err != nil {
			return err
		}
		_, err := fmt.Fprintf(c.App.Writer, "Saved under %s: %s\nfrom the offset %s\n", key, record.Token(), bytes.TrimSpace(offset.Value))
		return err
	}}).run(c.Context, file, c.StringSlice(resourcesOf))
}

// handOver asks the source of a configuration which position an offset is.
func handOver(ctx context.Context, file string, offset []byte) (record checkpoint.Record, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return record, err
	}
	var whole map[string]yaml.Node
	if err := yaml.Unmarshal(text, &whole); err != nil {
		return record, fmt.Errorf("%s: %w", file, err)
	}
	delete(whole, "output") // nothing is delivered
	delete(whole, "pipeline")
	input, err := yaml.Marshal(whole)
	if err != nil {
		return record, err
	}
	var records [][]byte
	ctx = contract.WithHandover(ctx, &contract.Handover{Offset: offset, Add: func(_ string, r []byte) { records = append(records, r) }})
	if _, err := control.ValidateFile(ctx, input, true); err != nil {
		return record, fmt.Errorf("%s: %w", file, err)
	}
	if len(records) != 1 {
		return record, fmt.Errorf("%s: want one source of DeltaForge in its input, got %d", file, len(records))
	}
	return checkpoint.UnmarshalRecord(records[0])
}
