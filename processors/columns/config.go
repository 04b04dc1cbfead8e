// Package columns is the processor deltaforge_columns: it takes columns of rows out, renames, masks and shortens them.
package columns

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/step"
	"github.com/deltaforge/deltaforge/internal/tablefilter"
)

const (
	fieldRules    = "rules"
	fieldInclude  = "include"
	fieldExclude  = "exclude"
	fieldRename   = "rename"
	fieldMask     = "mask"
	fieldTruncate = "truncate"
	fieldColumns  = "columns"
	fieldWith     = "with"
	fieldText     = "text"
	fieldSalt     = "salt"
	fieldKeep     = "keep"
	fieldLength   = "length"
)

// The ways to mask.
const (
	withFixed = "fixed"
	withHash  = "hash"
	withLast  = "keep_last"
)

func spec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Categories("Mapping").
		Version("0.1.0").
		Summary("Takes columns out of rows, renames them, masks and shortens their values.").
		Description(description).
		Fields(service.NewObjectListField(fieldRules, ruleFields()...).
			LintRule(`root = if this.type() == "array" && this.length() == 0 { ["want at least one rule"] }`).
			Description("What is done to which tables. Each rule sees the columns as the rule before has left them.")).
		Example("Personal data of customers", "The e-mail address stays comparable, of the card the last four digits stay, the password is gone. "+
			"The salt is taken from the environment.", `
pipeline:
  processors:
    - deltaforge_columns:
        rules:
          - tables: [ "shop.customers" ]
            exclude: [ password ]
            mask:
              - { columns: [ email ], with: hash, salt: "${SALT}" }
              - { columns: [ card ], with: keep_last, keep: 4 }
`)
}

func ruleFields() []*service.ConfigField {
	names := "A name, or a pattern with `%` for any characters. A table that lacks a column that is named in full is an error."
	return []*service.ConfigField{
		step.TablesField("the rule is for"),
		service.NewObjectListField(fieldMask,
			service.NewStringListField(fieldColumns).Description("The columns. "+names),
			service.NewStringAnnotatedEnumField(fieldWith, map[string]string{
				withFixed: "Each value becomes `text`.",
				withHash:  "Each value becomes its HMAC-SHA-256 with the salt, 64 hexadecimal digits: equal values stay equal, in every table and at every start.",
				withLast:  "The last `keep` characters stay, the others become `*`. A value with no more than that many characters becomes asterisks.",
			}).Description("What becomes of the values. The column then holds text. NULL stays NULL."),
			service.NewStringField(fieldText).Default("***").Description("For `fixed`.").Advanced(),
			service.NewStringField(fieldSalt).Default("").Secret().Description("For `hash`, not empty. Whoever knows it can test a guess."),
			service.NewIntField(fieldKeep).Default(4).LintRule(`root = if this < 0 { ["want at least 0"] }`).Description("For `keep_last`.").Advanced(),
		).Default([]any{}).Description("Columns whose values nobody is to see."),
		service.NewObjectListField(fieldTruncate,
			service.NewStringListField(fieldColumns).Description("The columns, of text or binary data. "+names),
			service.NewIntField(fieldLength).LintRule(`root = if this < 0 { ["want at least 0"] }`).Description("How many characters stay, of binary data how many bytes."),
		).Default([]any{}).Description("Columns whose values are shortened."),
		service.NewStringListField(fieldInclude).Default([]any{}).Description("The columns that stay. " + names + " Empty: all. The columns of the key always stay."),
		service.NewStringListField(fieldExclude).Default([]any{}).Description("The columns that are taken out. " + names),
		service.NewStringMapField(fieldRename).Default(map[string]any{}).Description("New names, by the old ones.").Example(map[string]any{"cust_nm": "customer_name"}),
	}
}

const description = `
The rows before and after the change, the key, the metadata key ` + "`schema`" + `, the ` + "`schema_version`" + ` and events about a table's shape all have the new columns. A rule masks first, then
shortens, takes out and renames.

The payload is made anew from the event. So put this processor before those that change payloads (` + "`mapping`" + `); where it finds a changed payload it fails.

== What is masked stays masked

A message on which the processor fails goes on with its error and *without its row*: before and after are null. So a dead-letter queue gets no unmasked value. The
errors name tables and columns, and no values.

A masked column of the key is masked in the key of the message and in the ` + "`event_id`" + ` of rows of a snapshot. It must be masked with ` + "`hash`" + `: the other ways would make different rows one. The source's
own log, before any processor, names a row of a snapshot that the output refuses by its unmasked key.

Three things hold unmasked values and are yours to look after: metadata that a processor before this one has set, the text of an ` + "`ALTER`" + ` with a default, and the database.

== Errors

A table that lacks a column which is named in full, a key column that is taken out, two columns of one name: each is an error of the events of that table, which our outputs refuse.
`

// columnSet are columns, by names and patterns.
type columnSet []string

func (s columnSet) has(name string) bool {
	return slices.ContainsFunc(s, func(p string) bool { return tablefilter.MatchName(p, name) })
}

type mask struct {
	columns columnSet
	with    string
	text    []byte
	salt    []byte
	keep    int
}

type truncate struct {
	columns columnSet
	length  int
}

// rule is what is done to some tables.
type rule struct {
	tables           step.Tables
	masks            []mask
	truncates        []truncate
	include, exclude columnSet
	rename           map[string]string
}

// named are the columns that the rule names in full, in no order.
func (r *rule) named() (out []string) {
	add := func(s columnSet) {
		for _, name := range s {
			if !strings.Contains(name, "%") {
				out = append(out, name)
			}
		}
	}
	for _, m := range r.masks {
		add(m.columns)
	}
	for _, t := range r.truncates {
		add(t.columns)
	}
	add(r.include)
	add(r.exclude)
	return append(out, slices.Sorted(maps.Keys(r.rename))...)
}

func parse(conf *service.ParsedConfig) ([]rule, error) {
	list, err := conf.FieldObjectList(fieldRules)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: want at least one", fieldRules)
	}
	var rules []rule
	for i, c := range list {
		r, err := parseRule(c)
		if err != nil {
			return nil, fmt.Errorf("%s %d: %w", fieldRules, i, err)
		}
		rules = append(rules, r)
	}
	return rules, nil
}

func parseRule(conf *service.ParsedConfig) (r rule, err error) {
	if r.tables, err = step.ParseTables(conf, step.FieldTables); err != nil {
		return r, err
	}
	masks, err := conf.FieldObjectList(fieldMask)
	if err != nil {
		return r, err
	}
	for _, c := range masks {
		m, err := parseMask(c)
		if err != nil {
			return r, fmt.Errorf("%s: %w", fieldMask, err)
		}
		r.masks = append(r.masks, m)
	}
	truncates, err := conf.FieldObjectList(fieldTruncate)
	if err != nil {
		return r, err
	}
	for _, c := range truncates {
		var t truncate
		if t.columns, err = c.FieldStringList(fieldColumns); err != nil {
			return r, err
		}
		if t.length, err = c.FieldInt(fieldLength); err != nil {
			return r, err
		}
		if t.length < 0 {
			return r, fmt.Errorf("%s.%s: want at least 0", fieldTruncate, fieldLength)
		}
		r.truncates = append(r.truncates, t)
	}
	if r.include, err = conf.FieldStringList(fieldInclude); err != nil {
		return r, err
	}
	if r.exclude, err = conf.FieldStringList(fieldExclude); err != nil {
		return r, err
	}
	r.rename, err = conf.FieldStringMap(fieldRename)
	return r, err
}

func parseMask(conf *service.ParsedConfig) (m mask, err error) {
	if m.columns, err = conf.FieldStringList(fieldColumns); err != nil {
		return m, err
	}
	if m.with, err = conf.FieldString(fieldWith); err != nil {
		return m, err
	}
	text, err := conf.FieldString(fieldText)
	if err != nil {
		return m, err
	}
	salt, err := conf.FieldString(fieldSalt)
	if err != nil {
		return m, err
	}
	m.text, m.salt = []byte(text), []byte(salt)
	if m.keep, err = conf.FieldInt(fieldKeep); err != nil {
		return m, err
	}
	switch {
	case len(m.columns) == 0:
		return m, fmt.Errorf("%s: want at least one", fieldColumns)
	case !slices.Contains([]string{withFixed, withHash, withLast}, m.with):
		return m, fmt.Errorf("%s: want one of %s, %s, %s, got %q", fieldWith, withFixed, withHash, withLast, m.with)
	case m.with == withHash && salt == "":
		return m, errors.New("salt: hash wants one; without it anybody can test a guess")
	case m.keep < 0:
		return m, fmt.Errorf("%s: want at least 0", fieldKeep)
	}
	return m, nil
}
