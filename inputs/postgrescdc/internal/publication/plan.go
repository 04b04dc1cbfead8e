package publication

import (
	"fmt"
	"slices"
	"strings"

	"github.com/deltaforge/deltaforge/internal/fault"
)

// Config is what a source wants of its publication.
//
// Of all that it captures the publication names the tables, each after Refused was asked. A table that is made while the source
// runs is added within seconds. So that nothing of it is missing until then, a second publication beside it has everything that is
// captured as a whole, FOR ALL TABLES or FOR TABLES IN SCHEMA, where the role may make one. It has inserts and truncates only: for
// their sake the server refuses nothing.
type Config struct {
	Name   string
	Source string // the source's name
	Create bool   // we may make publications, and change ours
	Filter *Filter
}

// InsertsName is the name of the second publication; empty where none would fit.
func (c *Config) InsertsName() string {
	const suffix, most = "_inserts", 63
	if len(c.Name)+len(suffix) > most {
		return ""
	}
	return c.Name + suffix
}

// Names returns the publications to read, as the option of START_REPLICATION has them.
func (c *Config) Names(st *State) string {
	names := Ident(c.Name)
	if st.Inserts != nil {
		names += "," + Ident(c.InsertsName())
	}
	return names
}

// Role is who plans, and where.
type Role struct {
	Name, Database string
	Version        int
	Super          bool
	Create         bool // the role may make publications
	Fresh          bool // there is no slot yet, so nothing is older than what is made now
}

// Plan is what is to be done.
type Plan struct {
	Statements []string
	Done       string // what to say after them
	Added      []Name // that were not published before
	Problems   []Problem
	Warnings   []string
}

// Problem is a reason not to start.
type Problem struct {
	Kind fault.Kind
	Text string
}

func (p *Plan) problem(kind fault.Kind, format string, args ...any) {
	p.Problems = append(p.Problems, Problem{kind, fmt.Sprintf(format, args...)})
}

func (p *Plan) warn(format string, args ...any) {
	p.Warnings = append(p.Warnings, fmt.Sprintf(format, args...))
}

// Plan works out what the publication lacks, and what of it is not ours to mend.
func (c *Config) Plan(st *State, role Role) *Plan {
	p := &Plan{}
	wanted := c.Filter.Choose(st.Tables)
	for _, text := range c.Filter.Unmatched(st.Tables) {
		p.warn("tables.include: %s; a table that is made later is captured from then on", text)
	}
	if len(wanted) == 0 && len(c.Filter.Include) == 0 {
		p.warn("there is no table to capture; one that is made later is captured from then on")
	}
	if st.Main == nil {
		c.planCreate(p, st, role, wanted)
	} else {
		c.planChange(p, st, role, wanted)
	}
	return p
}

const viaRoot = " WITH (publish_via_partition_root = true)"

// planCreate plans a publication of exactly the wanted tables.
func (c *Config) planCreate(p *Plan, st *State, role Role, wanted []Table) {
	var foreign []Name
	for i := range wanted {
		if !wanted[i].Owned {
			foreign = append(foreign, wanted[i].Name)
		}
	}
	refused := Refused(role.Version, st.Tables, wanted, false)
	switch {
	case !c.Create:
		p.problem(fault.KindOther, "there is no publication %s and create_publication is off: %s", c.Name, c.advice(wanted, refused))
	case !role.Create:
		p.problem(fault.KindPermission, "role %s may not create the publication %s: GRANT CREATE ON DATABASE %s TO %s, or, as another "+
			"role, %s", role.Name, c.Name, Ident(role.Database), Ident(role.Name), c.advice(wanted, refused))
	case len(foreign) > 0 && !role.Super:
		p.problem(fault.KindPermission, "role %s does not own %s, so it may not publish: as a superuser, %s", role.Name, list(foreign, ""),
			c.advice(wanted, refused))
	case len(refused) > 0:
		p.problem(fault.KindSchema, "%s", c.refusal(wanted, refused))
	default:
		target := " FOR TABLE " + list(names(wanted), "ONLY ")
		if len(wanted) == 0 {
			target = ""
		}
		p.make(c, c.Name, target, viaRoot)
		p.Done = "created the publication " + c.Name + shortened(target)
		if inserts := c.insertsTarget(role); inserts != "" && st.Inserts == nil {
			p.make(c, c.InsertsName(), inserts, insertsOnly)
			p.Done += ", and " + c.InsertsName() + shortened(inserts) + " with the inserts of tables that are made later"
		}
	}
}

const insertsOnly = " WITH (publish = 'insert, truncate', publish_via_partition_root = true)"

// insertsTarget is what the second publication is for; empty: there is none. Changes that are older than a publication cannot be read
// through it, so it is only made before the slot.
func (c *Config) insertsTarget(role Role) string {
	everything, schemas := c.Filter.whole()
	switch {
	case !role.Super || !role.Fresh || c.InsertsName() == "":
		return ""
	case everything:
		return " FOR ALL TABLES"
	case len(schemas) == 0 || role.Version < withSchemas:
		return ""
	}
	quoted := make([]string, len(schemas))
	for i, s := range schemas {
		quoted[i] = Ident(s)
	}
	slices.Sort(quoted)
	return " FOR TABLES IN SCHEMA " + strings.Join(slices.Compact(quoted), ", ")
}

func (p *Plan) make(c *Config, name, target, options string) {
	p.Statements = append(p.Statements, "CREATE PUBLICATION "+Ident(name)+target+options,
		"COMMENT ON PUBLICATION "+Ident(name)+" IS "+Literal(c.comment()))
}

// advice is the statements for somebody else to make the publication with. After them no write is refused: tables that would be are
// given an identity first, or are left out.
func (c *Config) advice(wanted []Table, refused []Refusal) string {
	out, mends := map[Name]bool{}, []string(nil)
	for _, r := range refused {
		if r.Mend == "" {
			out[r.Of] = true
		}
	}
	for _, r := range refused {
		if !out[r.Of] {
			mends = append(mends, r.Mend)
		}
	}
	var kept []Name
	for i := range wanted {
		if !out[wanted[i].Name] {
			kept = append(kept, wanted[i].Name)
		}
	}
	target := ""
	if len(kept) > 0 {
		target = " FOR TABLE " + list(kept, "ONLY ")
	}
	text := strings.Join(append(mends, "CREATE PUBLICATION "+Ident(c.Name)+target+viaRoot), "; ")
	for _, t := range wanted {
		if out[t.Name] {
			text += "; without " + t.SQL() + ", to be left out with tables.exclude: " + whyOf(refused, t.Name)
		}
	}
	return text
}

// refusal says why we do not make a publication.
func (c *Config) refusal(wanted []Table, refused []Refusal) string {
	var mends, without []string
	var hopeless []Name
	for _, r := range refused {
		switch {
		case r.Mend != "":
			mends = append(mends, r.Mend)
		case !slices.Contains(hopeless, r.Of):
			hopeless = append(hopeless, r.Of)
			without = append(without, r.Of.SQL()+", since "+whyOf(refused, r.Of))
		}
	}
	var ways []string
	if len(mends) > 0 {
		ways = append(ways, bounded(mends, "; "))
	}
	if len(without) > 0 {
		ways = append(ways, "leave out with tables.exclude "+bounded(without, "; "))
	} else {
		ways = append(ways, "or leave them out with tables.exclude")
	}
	return "publishing tables that have no replica identity would make the server refuse the application's updates and deletes of their rows: " +
		strings.Join(ways, "; ") + "; or, where rows are only ever inserted, make the publication yourself: " +
		shortened("CREATE PUBLICATION "+Ident(c.Name)+" FOR TABLE "+list(names(wanted), "ONLY ")+insertsOnly)
}

// whyOf says what is wrong with a published table that no statement is known to mend.
func whyOf(refused []Refusal, of Name) string {
	for _, r := range refused {
		switch {
		case r.Of != of || r.Mend != "":
		case r.Why == Later:
			return "the partitioned table " + r.Table.SQL() + " has no primary key, so partitions that are made later would have no replica identity"
		case r.Why == Generated:
			return "the replica identity of " + r.Table.SQL() + " needs a generated column, which is not published"
		}
	}
	return "it has no replica identity"
}

// planChange plans what an existing publication lacks. Only one of ours is changed; another one's owner is told how.
func (c *Config) planChange(p *Plan, st *State, role Role, wanted []Table) {
	pub := st.Main
	var missing []Table
	partitioned := false
	for i := range wanted {
		partitioned = partitioned || wanted[i].Partitioned
		if !pub.Has(&wanted[i]) {
			missing = append(missing, wanted[i])
		}
	}
	c.warnRefused(p, st, role)
	if !pub.Whole {
		p.warn("the publication %s does not publish all kinds of changes, so some are missing: ALTER PUBLICATION %s SET (publish = "+
			"'insert, update, delete, truncate'), after every table in it has a replica identity", c.Name, Ident(c.Name))
	}
	alter := "ALTER PUBLICATION " + Ident(c.Name)
	root := alter + " SET (publish_via_partition_root = true)"
	if !pub.Own || !c.Create {
		if partitioned && !pub.ViaRoot {
			p.problem(fault.KindSchema, "publication %s publishes partitions under their own names: %s", c.Name, root)
		}
		if len(missing) > 0 {
			p.problem(fault.KindSchema, "publication %s lacks %s: %s; or leave them out with tables.include or tables.exclude", c.Name,
				list(names(missing), ""), c.adviceToAdd(st, role, missing))
		}
		return
	}
	if partitioned && !pub.ViaRoot {
		p.Statements = append(p.Statements, root)
	}
	if missing = c.mayAdd(p, st, role, missing); len(missing) > 0 {
		p.Added = names(missing)
		p.Statements = append(p.Statements, alter+" ADD TABLE "+list(p.Added, "ONLY "))
	}
	if len(p.Statements) > 0 {
		p.Done = "changed the publication " + c.Name + ": " + shortened(strings.Join(p.Statements, "; "))
	}
}

// mayAdd returns those of the missing tables that can be added without harm, and warns of the others.
func (c *Config) mayAdd(p *Plan, st *State, role Role, missing []Table) (add []Table) {
	refused := Refused(role.Version, st.Tables, missing, st.Main.Generated)
	for _, t := range missing {
		i := slices.IndexFunc(refused, func(r Refusal) bool { return r.Of == t.Name })
		switch {
		case i >= 0:
			what := "changes of " + t.String() + " are not captured"
			if st.Inserts != nil && (st.Inserts.AllTables || st.Inserts.Schemas[t.Schema]) {
				what = "of " + t.String() + " only inserts and truncates are captured"
			}
			p.warn("%s: %s; it is added within seconds then, and rows that were changed before have to be loaded again", what, whyNot(refused, t.Name))
		case !t.Owned && !role.Super:
			p.warn("changes of %s are not captured, since role %s does not own it: as a superuser, ALTER PUBLICATION %s ADD TABLE ONLY %s", t.Name,
				role.Name, Ident(c.Name), t.SQL())
		default:
			add = append(add, t)
		}
	}
	return add
}

// whyNot says why a table is not published, and the way out if there is one.
func whyNot(refused []Refusal, of Name) string {
	var mends []string
	for _, r := range refused {
		if r.Of == of && r.Mend == "" {
			return whyOf(refused, of)
		}
		if r.Of == of {
			mends = append(mends, r.Mend)
		}
	}
	return "the server would refuse updates and deletes of its rows, for want of a replica identity: " + bounded(mends, "; ")
}

// adviceToAdd is the statements for somebody else to add tables with.
func (c *Config) adviceToAdd(st *State, role Role, missing []Table) string {
	refused := Refused(role.Version, st.Tables, missing, st.Main.Generated)
	if !st.Main.Changes {
		refused = nil
	}
	var parts, hopeless []string
	var add []Name
	for _, t := range missing {
		mended := true
		for _, r := range refused {
			mended = mended && (r.Of != t.Name || r.Mend != "")
		}
		if !mended {
			hopeless = append(hopeless, "without "+t.SQL()+", since "+whyOf(refused, t.Name))
			continue
		}
		for _, r := range refused {
			if r.Of == t.Name {
				parts = append(parts, r.Mend)
			}
		}
		add = append(add, t.Name)
	}
	if len(add) > 0 {
		parts = append(parts, "ALTER PUBLICATION "+Ident(c.Name)+" ADD TABLE "+list(add, "ONLY "))
	}
	return strings.Join(append(parts, hopeless...), "; ")
}

// warnRefused names the published tables whose updates and deletes the server refuses already.
func (c *Config) warnRefused(p *Plan, st *State, role Role) {
	if !st.Main.Changes {
		return
	}
	var published []Table
	for i := range st.Tables {
		if st.Main.Has(&st.Tables[i]) {
			published = append(published, st.Tables[i])
		}
	}
	refused := Refused(role.Version, st.Tables, published, st.Main.Generated)
	for i, r := range refused {
		if i == mostNamed {
			p.warn("the server refuses updates and deletes of %d further tables", len(refused)-i)
			return
		}
		way := r.Mend
		if way == "" {
			way = whyOf(refused, r.Of)
		}
		if r.Why == Later {
			p.warn("the server will refuse updates and deletes of partitions of %s that are made later while it is published: %s", r.Table.Name, way)
			continue
		}
		p.warn("table %s has no replica identity, so the server refuses to update and delete its rows while it is published: %s", r.Table.Name, way)
	}
}

func names(tables []Table) []Name {
	out := make([]Name, len(tables))
	for i := range tables {
		out[i] = tables[i].Name
	}
	return out
}

// list joins names as statements have them, each after a word.
func list(tables []Name, word string) string {
	parts := make([]string, len(tables))
	for i, t := range tables {
		parts[i] = word + t.SQL()
	}
	return strings.Join(parts, ", ")
}

// mostNamed bounds how many tables a message names.
const mostNamed = 20

func bounded(parts []string, separator string) string {
	n := min(len(parts), mostNamed)
	text := strings.Join(parts[:n], separator)
	if n < len(parts) {
		text += fmt.Sprintf(" (and %d further tables)", len(parts)-n)
	}
	return text
}

// shortened keeps a log line short where there are thousands of tables.
func shortened(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + " …"
	}
	return s
}

// Meddled says what somebody else did to the tables of the publication between two looks, as far as changes are missing by it.
func Meddled(before, now *State, c *Config) (texts []string) {
	if before.Main == nil || now.Main == nil || now.Main.AllTables {
		return nil
	}
	for _, t := range c.Filter.Choose(now.Tables) {
		was, is := before.Main.Members[t.OID], now.Main.Members[t.OID]
		switch {
		case was != 0 && is == 0 && !now.Main.Has(&t):
			texts = append(texts, fmt.Sprintf("somebody has taken the table %s out of the publication %s: its changes are missing from then on",
				t.Name, c.Name))
		case was != 0 && is != 0 && was != is:
			texts = append(texts, fmt.Sprintf("somebody has taken the table %s out of the publication %s and has added it again: its changes between "+
				"are missing: load it again at the consumers", t.Name, c.Name))
		case was == 0 && is != 0:
			texts = append(texts, fmt.Sprintf("somebody has added the table %s to the publication %s: its changes are captured from then on, and rows "+
				"that it had already are not read: load it at the consumers", t.Name, c.Name))
		}
	}
	return texts
}
