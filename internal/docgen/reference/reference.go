// Package reference renders the reference pages of our components.
package reference

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redpanda-data/benthos/v4/public/service"

	_ "github.com/deltaforge/deltaforge" // the components
)

// prefix is what the names of our components begin with. The metrics exporter's is the prefix alone.
const prefix = "deltaforge"

// Pages returns the page of every component of ours by file name, and an index.
func Pages() (map[string]string, error) {
	env := service.GlobalEnvironment()
	var all []service.TemplateDataPlugin
	var errs []error
	add := func(name string, view *service.ConfigView) {
		if name != prefix && !strings.HasPrefix(name, prefix+"_") {
			return
		}
		d, err := view.TemplateData()
		errs = append(errs, err)
		all = append(all, d)
	}
	env.WalkInputs(add)
	env.WalkProcessors(add)
	env.WalkOutputs(add)
	env.WalkCaches(add)
	env.WalkMetrics(add)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(a, b service.TemplateDataPlugin) int { return cmp.Compare(order(a.Type), order(b.Type)) })
	pages := map[string]string{}
	var index strings.Builder
	index.WriteString("# Components\n\n| component | kind | what it does |\n|---|---|---|\n")
	for _, d := range all {
		file := fmt.Sprintf("%s-%s.md", d.Type, d.Name)
		pages[file] = page(d)
		fmt.Fprintf(&index, "| [`%s`](%s) | %s | %s |\n", d.Name, file, d.Type, markdown(d.Summary))
	}
	index.WriteString("\nThese pages are generated: `go tool -modfile=tools/go.mod task docs`.\n")
	pages["README.md"] = index.String()
	return pages, nil
}

func order(kind string) int {
	return slices.Index([]string{"input", "processor", "output", "cache", "metrics"}, kind)
}

func page(d service.TemplateDataPlugin) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# `%s` %s\n\n%s\n\n", d.Name, d.Type, markdown(d.Summary))
	if d.Description != "" {
		fmt.Fprintf(&b, "%s\n\n", markdown(d.Description))
	}
	fmt.Fprintf(&b, "## Configuration\n\nThe common fields:\n\n```yaml\n%s```\n\n", d.CommonConfigYAML)
	if d.AdvancedConfigYAML != d.CommonConfigYAML {
		fmt.Fprintf(&b, "All fields:\n\n```yaml\n%s```\n\n", d.AdvancedConfigYAML)
	}
	for _, e := range d.Examples {
		fmt.Fprintf(&b, "## Example: %s\n\n%s\n\n```yaml\n%s\n```\n\n", e.Title, markdown(e.Summary), strings.TrimSpace(e.Config))
	}
	b.WriteString("## Fields\n\n")
	for _, f := range d.Fields {
		field(&b, f)
	}
	if d.Footnotes != "" {
		fmt.Fprintf(&b, "%s\n", markdown(d.Footnotes))
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

func field(b *strings.Builder, f service.TemplateDataPluginField) {
	fmt.Fprintf(b, "### `%s`\n\n%s\n\n", f.FullName, markdown(f.Description))
	facts := []string{"Type: `" + f.Type + "`"}
	if f.DefaultMarshalled != "" {
		facts = append(facts, "default: `"+f.DefaultMarshalled+"`")
	}
	if f.IsInterpolated {
		facts = append(facts, "may contain interpolations")
	}
	if f.IsSecret {
		facts = append(facts, "secret: it appears in no log and no error")
	}
	fmt.Fprintf(b, "%s.\n\n", strings.Join(facts, "; "))
	if len(f.AnnotatedOptions) > 0 {
		b.WriteString("| option | meaning |\n|---|---|\n")
		for _, o := range f.AnnotatedOptions {
			fmt.Fprintf(b, "| `%s` | %s |\n", o[0], markdown(o[1]))
		}
		b.WriteString("\n")
	} else if len(f.Options) > 0 {
		fmt.Fprintf(b, "Options: `%s`.\n\n", strings.Join(f.Options, "`, `"))
	}
	if len(f.ExamplesMarshalled) > 0 {
		fmt.Fprintf(b, "```yaml\n%s\n```\n\n", strings.TrimSpace(strings.Join(f.ExamplesMarshalled, "\n")))
	}
}
