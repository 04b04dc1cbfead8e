package e2e

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// POST /validate says of a configuration what is wrong with it, up to what only the servers know, and creates nothing.
func TestOperatorValidate(t *testing.T) {
	d := newDeck(t, "")
	shop, books := deckMySQL(t, d, ""), deckPostgres(t, d, "")
	for _, src := range []source{shop, books} {
		src.workload(t) // the tables that the patterns of the configurations are about
	}
	redis := deckRedis(t, d)
	d.start()
	out := deckStream(redis.Addr(), "s")
	wrong := func(config string) string {
		changed := regexp.MustCompile(`\$\{\w+_PASSWORD\}`).ReplaceAllString(config, "not_it")
		require.NotEqual(t, config, changed)
		return changed
	}
	for name, c := range map[string]struct {
		status int
		config string
		wants  []string
	}{
		"mysql":             {200, shop.input + out, []string{`"component":"shop","status":"connected"`, `"component":"store","status":"connected"`}},
		"postgres":          {200, books.input + out, []string{`"component":"books","status":"connected"`}},
		"mysql password":    {400, wrong(shop.input) + out, []string{`"component":"shop","status":"failed","error":"connecting to `, "Access denied"}},
		"postgres password": {400, wrong(books.input) + out, []string{`"component":"books","status":"failed"`, "password authentication failed"}},
		"mysql table":       {400, strings.Replace(shop.input, `include: ["`, `include: ["shop.gone", "`, 1) + out, []string{"there is no table shop.gone"}},
		"postgres table":    {400, strings.Replace(books.input, `include: ["`, `include: ["public.gone", "`, 1) + out, []string{"there is no table public.gone"}},
		"redis password":    {400, shop.input + wrong(out), []string{`"component":"shop","status":"connected"`, `"component":"store","status":"failed"`}},
		"in a broker": {
			400, "input: {broker: {inputs: [" + `{label: inner, deltaforge_mysql: {name: x, dsn: 'u:not_it@tcp(127.0.0.1:1)/'}}` + "]}}\n" + out,
			[]string{`"component":"inner","status":"failed","error":"connecting to 127.0.0.1:1 as u: `},
		},
	} {
		text := d.want(c.status, "POST", "/validate", c.config)
		for _, want := range c.wants {
			assert.Contains(t, text, want, name)
		}
		assert.NotContains(t, text, "not_it", name)
	}
	assert.JSONEq(t, "{}", d.want(200, "GET", "/streams", ""))
	assert.NotContains(t, d.scrape().text, "deltaforge_source_", "nothing is left of what was tried")

	// Beside the pipeline that it is about, too.
	d.want(200, "POST", "/streams/books", books.input+out)
	d.until(60*time.Second, atLeast(1), "checkpoint_success_total", "pipeline=books")
	d.want(200, "POST", "/validate", books.input+out)
	d.want(200, "GET", "/ready", "")
}
