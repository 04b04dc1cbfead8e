package format

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope/confluent"
	"github.com/deltaforge/deltaforge/internal/registry"
)

// The fields of the schema registry.
const (
	fieldRegistry  = "registry"
	fieldURLs      = "urls"
	fieldTopic     = "topic"
	fieldSubject   = "subject"
	fieldRegister  = "register"
	fieldBasicAuth = "basic_auth"
	fieldUsername  = "username"
	fieldPassword  = "password"
	fieldBearer    = "bearer_token"
	fieldTLS       = "tls"
)

// defaultTopic is the default topic of deltaforge_kafka, with the name of the source as its prefix.
const defaultTopic = `${! metadata("source") }.${! metadata("schema_name").or(metadata("database")) }.${! metadata("table") }`

func subjects() []string {
	return texts(confluent.SubjectTopic, confluent.SubjectRecord, confluent.SubjectTopicRecord)
}

func registryFields() []*service.ConfigField {
	return []*service.ConfigField{
		service.NewStringListField(fieldURLs).Description("Where the registry is. Of several, the next is asked where one is away. A user and a password belong into `basic_auth`.").
			Default([]any{}).Example([]string{"https://registry:8081"}),
		service.NewInterpolatedStringField(fieldTopic).Default(defaultTopic).Description("The topic of a table, of which subjects and the namespaces of records are made. Schemas are registered " +
			"before the output sees a message, so the format cannot ask the output. Set it to the `topic` of the output. It may use the metadata `source`, `database`, `schema_name` and " +
			"`table`. The default is the default topic of `deltaforge_kafka` if its `topic_prefix` is the `name` of the source."),
		enum(fieldSubject, subjects(), "How subjects are named: `topic`, `<topic>-value` and `<topic>-key`; `record`, the full name of the record; or `topic_record`, `<topic>-<full name>`."),
		service.NewBoolField(fieldRegister).Default(true).Description("Whether schemas are registered that the registry does not have. Else they are an error, which has the schema."),
		service.NewObjectField(fieldBasicAuth,
			service.NewStringField(fieldUsername).Default("").Description("The user."),
			service.NewStringField(fieldPassword).Default("").Secret().Description("The password."),
		).Description("A user of the registry.").Optional(),
		service.NewStringField(fieldBearer).Default("").Secret().Description("A token, in place of a user."),
		service.NewTLSToggledField(fieldTLS).Description("TLS with options of its own. For a certificate that the system trusts, a URL of `https` is enough."),
	}
}

// fieldChanges is the field of the sources by which they deliver changes of shapes.
const fieldChanges = "schema_changes"

// ChangesRule is the lint rule of a source that can deliver changes of shapes.
const ChangesRule = `root = if this.schema_changes.or(false) == true && ["avro", "protobuf", "json_schema"].contains(this.format.or("")) {
  ["schema_changes: changes of shapes have no form in the format " + this.format + ": leave it off, or read them by a source with another format"]
}`

// checkChanges refuses what a format with a registry has no form for.
func checkChanges(conf *service.ParsedConfig, format string) error {
	if !conf.Contains(fieldChanges) { // a processor
		return nil
	}
	on, err := conf.FieldBool(fieldChanges)
	if err == nil && on {
		err = fmt.Errorf("%s: changes of shapes have no form in the format %s: leave it off, or read them by a source with another format", fieldChanges, format)
	}
	return err
}

// registryConf is what formats need of the registry.
type registryConf struct {
	client  *registry.Client
	topic   *service.InterpolatedString
	subject confluent.Subject
}

func parseRegistry(conf *service.ParsedConfig, format string, log registry.Logger) (r registryConf, err error) {
	c := registry.Config{Log: log}
	if err := checkChanges(conf, format); err != nil {
		return r, err
	}
	if c.URLs, err = conf.FieldStringList(fieldRegistry, fieldURLs); err != nil {
		return r, err
	}
	if len(c.URLs) == 0 {
		return r, fmt.Errorf("%s.%s: the format needs a schema registry: set its address", fieldRegistry, fieldURLs)
	}
	for _, text := range c.URLs {
		if err := checkURL(text); err != nil {
			return r, err
		}
	}
	for field, dst := range map[string]*string{fieldUsername: &c.Username, fieldPassword: &c.Password} {
		if *dst, err = conf.FieldString(fieldRegistry, fieldBasicAuth, field); err != nil {
			return r, err
		}
	}
	if c.Bearer, err = conf.FieldString(fieldRegistry, fieldBearer); err != nil {
		return r, err
	}
	if c.Bearer != "" && c.Username != "" {
		return r, fmt.Errorf("%s: set %s or %s, not both", fieldRegistry, fieldBasicAuth, fieldBearer)
	}
	var options *tls.Config
	var on bool
	if options, on, err = conf.FieldTLSToggled(fieldRegistry, fieldTLS); err != nil {
		return r, err
	}
	if on {
		c.TLS = options
	}
	if c.Register, err = conf.FieldBool(fieldRegistry, fieldRegister); err != nil {
		return r, err
	}
	subject, err := oneOf(conf, subjects(), fieldRegistry, fieldSubject)
	if err != nil {
		return r, err
	}
	r.subject = confluent.Subject(subject)
	if r.topic, err = conf.FieldInterpolatedString(fieldRegistry, fieldTopic); err != nil {
		return r, err
	}
	r.client, err = registry.New(c)
	return r, err
}

// checkURL checks the address of a registry. An error does not have a password of it.
func checkURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return fmt.Errorf("%s.%s: an address is no URL", fieldRegistry, fieldURLs)
	case u.User != nil:
		return fmt.Errorf("%s.%s: the URL of %s has a user: set %s.%s", fieldRegistry, fieldURLs, u.Host, fieldRegistry, fieldBasicAuth)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("%s.%s: want http://host:port or https://host:port, got %q", fieldRegistry, fieldURLs, u.Redacted())
	}
	return nil
}

// topicOf returns the topic of a table.
func (r registryConf) topicOf(t *change.Table) (string, error) {
	m := service.NewMessage(nil)
	m.MetaSetMut(change.MetaSource, t.Source.Name)
	m.MetaSetMut(change.MetaDatabase, t.Database)
	m.MetaSetMut(change.MetaTable, t.Name)
	if t.Schema != "" {
		m.MetaSetMut(change.MetaSchemaName, t.Schema)
	}
	topic, err := r.topic.TryString(m)
	if err != nil {
		return "", fmt.Errorf("%s.%s: %w", fieldRegistry, fieldTopic, err)
	}
	if topic == "" || topic == "null" {
		return "", errors.New(fieldRegistry + "." + fieldTopic + " is empty for it: it may use the metadata source, database, schema_name and table")
	}
	return topic, nil
}

// naming returns where schemas in a language are registered.
func (r registryConf) naming(language registry.Type) confluent.Naming {
	return confluent.Naming{Registry: numbers{r.client, language}, Topic: r.topicOf, Subject: r.subject}
}

// numbers asks a registry for the numbers of schemas in a language.
type numbers struct {
	client   *registry.Client
	language registry.Type
}

// ID implements confluent.Registry.
func (n numbers) ID(ctx context.Context, subject, schema string) (int, error) {
	return n.client.ID(ctx, registry.Schema{Subject: subject, Text: schema, Type: n.language})
}
