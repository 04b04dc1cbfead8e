package redisout

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/sink"
)

// # One primary
//
// A transaction runs on one server. So the output writes to one primary, whatever it is a part of: a server by itself, the primary that Sentinel names, or the
// primary of one slot of a Cluster. When that is another one, the server says so (READONLY, MOVED) or is gone, and the next connection looks again.

const (
	fieldKind             = "kind"
	fieldMaster           = "master"
	fieldSentinelUsername = "sentinel_username"
	fieldSentinelPassword = "sentinel_password"
)

// What the field `kind` can be: the words of the engine's own outputs for Redis.
const (
	kindSimple   = "simple"
	kindFailover = "failover"
	kindCluster  = "cluster"
)

func topologyFields() []*service.ConfigField {
	return []*service.ConfigField{
		service.NewStringAnnotatedEnumField(fieldKind, map[string]string{
			kindSimple:   "One server.",
			kindFailover: "The primary that Sentinel names. `url` has the sentinels, with commas between them, and the credentials and the database of the primary.",
			kindCluster: "A Redis Cluster. `url` has some of its servers, with commas between them. All keys of the output have to be in one slot: give `prefix` a hash tag, such as `{shop}`, or use " +
				"one `stream`. For several slots use several outputs.",
		}).Default(kindSimple).Advanced().Description("What `url` leads to."),
		service.NewStringField(fieldMaster).Default("").Advanced().
			Description("The name that the sentinels have for the primary. For `kind: failover`.").Example("mymaster"),
		service.NewStringField(fieldSentinelUsername).Default("").Advanced().
			Description("The ACL user of the sentinels, if they want one."),
		service.NewStringField(fieldSentinelPassword).Default("").Advanced().Secret().
			Description("The password of the sentinels, if they want one."),
	}
}

// topology is where the primary is.
type topology struct {
	kind  string
	addrs []string // of sentinels, or of servers of the Cluster

	master             string // name of the primary
	user, password     string // of the sentinels
	sameSlot           string // of a Cluster: the hash tag of all keys
	credentialsDiffer  bool
	differentDatabases bool
}

// parseURLs reads the addresses. The first URL is returned for the rest.
func (t *topology) parseURLs(raw string) (*redis.Options, error) {
	var first *redis.Options
	for text := range strings.SplitSeq(raw, ",") {
		o, err := redis.ParseURL(strings.TrimSpace(text))
		if err != nil {
			return nil, errors.New("it is not redis://[user[:password]@]host[:port][/db], rediss://... or unix://[user[:password]@]/path[?db=n]; " +
				"special characters in a password are percent-encoded")
		}
		if first == nil {
			first = o
		}
		t.credentialsDiffer = t.credentialsDiffer || o.Username != first.Username || o.Password != first.Password || (o.TLSConfig == nil) != (first.TLSConfig == nil)
		t.differentDatabases = t.differentDatabases || o.DB != first.DB
		t.addrs = append(t.addrs, o.Addr)
	}
	return first, nil
}

// parseTopology is called after parseServer.
func (c *config) parseTopology(p *service.ParsedConfig) (err error) {
	t := &c.topology
	for field, to := range map[string]*string{
		fieldKind: &t.kind, fieldMaster: &t.master, fieldSentinelUsername: &t.user, fieldSentinelPassword: &t.password,
	} {
		if *to, err = p.FieldString(field); err != nil {
			return err
		}
	}
	switch {
	case t.kind == kindSimple && len(t.addrs) > 1:
		return fmt.Errorf("%s is %s, and %s has %d servers", fieldKind, kindSimple, fieldURL, len(t.addrs))
	case t.kind == kindFailover && t.master == "":
		return fmt.Errorf("%s wants %s, the name that the sentinels have for the primary", kindFailover, fieldMaster)
	case t.kind != kindFailover && (t.master != "" || t.user != "" || t.password != ""):
		return fmt.Errorf("%s, %s and %s are for %s", fieldMaster, fieldSentinelUsername, fieldSentinelPassword, kindFailover)
	case t.kind != kindSimple && c.redis.Network == "unix":
		return fmt.Errorf("%s does not go with a unix socket", t.kind)
	case t.credentialsDiffer:
		return fmt.Errorf("the servers of %s have different credentials, or only some of them have TLS", fieldURL)
	case t.differentDatabases:
		return fmt.Errorf("the servers of %s have different databases", fieldURL)
	case t.kind == kindCluster && c.redis.DB != 0:
		return fmt.Errorf("a Cluster has the database 0 only, and %s names %d", fieldURL, c.redis.DB)
	}
	switch t.kind {
	case kindFailover:
		c.shown = fmt.Sprintf("the primary %q of the sentinels %s", t.master, strings.Join(t.addrs, ", "))
	case kindCluster:
		c.shown = "the Cluster of " + strings.Join(t.addrs, ", ")
	}
	if t.kind != kindSimple && c.redis.TLSConfig != nil {
		c.redis.TLSConfig.ServerName = "" // that of each server, as the sentinels or the Cluster name it
	}
	return nil
}

// checkSlot is called when all names are known. It makes sure that the output's keys are in one slot of a Cluster, as far as they can be told by now.
func (c *config) checkSlot() error {
	t := &c.topology
	if t.kind != kindCluster {
		return nil
	}
	t.sameSlot = hashTag(c.guardKey)
	names := []string{c.checkpointKey("key")}
	if c.stream == nil {
		names = append(names, c.prefix+":")
	} else if name, static := c.stream.Static(); static {
		names = append(names, name)
	}
	for _, name := range names {
		if hashTag(name) != t.sameSlot {
			return fmt.Errorf("in a Cluster all keys of the output have to be in one slot, and %q is not in that of the guard key %q: give %s a hash tag, such as {shop}, "+
				"or %s and %s the same one", name, c.guardKey, fieldPrefix, fieldStream, fieldGuardKey)
		}
	}
	return nil
}

// inSlot refuses a key that is not in the slot of the others.
func (t *topology) inSlot(key string) error {
	if t.kind != kindCluster || hashTag(key) == t.sameSlot {
		return nil
	}
	return sink.Errorf(sink.Routing, "in a Cluster all keys of the output have to be in one slot, and %q does not have the hash tag {%s}", key, t.sameSlot)
}

// hashTag returns the part of a key that a Cluster takes the slot from.
func hashTag(key string) string {
	if _, after, ok := strings.Cut(key, "{"); ok {
		if tag, _, ok := strings.Cut(after, "}"); ok && tag != "" {
			return tag
		}
	}
	return key
}

// open makes a client of the primary. The sentinels or the Cluster say which one that is.
func (c *config) open(ctx context.Context) (*redis.Client, error) {
	opts := c.redis
	switch t := &c.topology; t.kind {
	case kindFailover:
		addr, err := c.primaryOfSentinels(ctx)
		if err != nil {
			return nil, err
		}
		opts.Addr = addr
	case kindCluster:
		addr, err := c.primaryOfSlot(ctx)
		if err != nil {
			return nil, err
		}
		opts.Addr = addr
	}
	return redis.NewClient(&opts), nil
}

// primaryOfSentinels asks one sentinel after the other. A server that is no primary any more ends its connections, and refuses to write.
func (c *config) primaryOfSentinels(ctx context.Context) (string, error) {
	var errs []error
	for _, addr := range c.topology.addrs {
		o := c.redis
		o.Addr, o.DB, o.Username, o.Password, o.OnConnect = addr, 0, c.topology.user, c.topology.password, nil
		cl := redis.NewSentinelClient(&o)
		found, err := cl.GetMasterAddrByName(ctx, c.topology.master).Result()
		_ = cl.Close() // it has only asked
		switch {
		case err == nil && len(found) == 2:
			return net.JoinHostPort(found[0], found[1]), nil
		case errors.Is(err, redis.Nil):
			err = fmt.Errorf("it does not know %s %q", fieldMaster, c.topology.master)
		}
		errs = append(errs, fmt.Errorf("sentinel %s: %w", addr, err))
	}
	return "", errors.Join(errs...)
}

// primaryOfSlot asks the servers of a Cluster.
func (c *config) primaryOfSlot(ctx context.Context) (addr string, err error) {
	o := &c.redis
	cl := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: c.topology.addrs, Dialer: o.Dialer, Protocol: o.Protocol, Username: o.Username, Password: o.Password, MaxRetries: o.MaxRetries,
		DialerRetries: o.DialerRetries, DialTimeout: o.DialTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
		ContextTimeoutEnabled: o.ContextTimeoutEnabled, TLSConfig: o.TLSConfig, DisableIdentity: o.DisableIdentity,
		MaintNotificationsConfig: o.MaintNotificationsConfig,
	})
	defer func() { _ = cl.Close() }() // it has only asked
	primary, err := cl.MasterForKey(ctx, c.guardKey)
	if err != nil {
		return "", err
	}
	return primary.Options().Addr, nil
}
