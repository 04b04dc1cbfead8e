package publication

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/fault"
)

// table is a table with a primary key; edit makes it another one.
func table(name string, oid uint32, edit func(*Table)) Table {
	t := Table{Name: Name{"public", name}, OID: oid, Owned: true, Identity: 'd', PrimaryKey: true}
	if edit != nil {
		edit(&t)
	}
	return t
}

func keyless(t *Table)     { t.PrimaryKey = false }
func partitioned(t *Table) { t.Partitioned = true }
func under(ancestors ...uint32) func(*Table) {
	return func(t *Table) { t.Ancestors = ancestors }
}

func edits(list ...func(*Table)) func(*Table) {
	return func(t *Table) {
		for _, f := range list {
			f(t)
		}
	}
}

func identity(b byte) func(*Table) { return func(t *Table) { t.Identity = b } }

// TestRefused has the kinds of identity of a table. TestRefusedByServer has the server's word on the same.
func TestRefused(t *testing.T) {
	full := "ALTER TABLE \"public\".\"t\" REPLICA IDENTITY FULL"
	byDefault := "ALTER TABLE \"public\".\"t\" REPLICA IDENTITY DEFAULT"
	stored := func(t *Table) { t.Stored = true }
	virtual := func(t *Table) { t.Virtual = true }
	for _, c := range []struct {
		name     string
		edit     func(*Table)
		old, new string // what version 17 and 18 have to say: the statement, or why
	}{
		{"primary key", nil, "", ""},
		{"none", keyless, full, full},
		{"nothing", identity('n'), full, full},
		{"full", edits(keyless, identity('f')), "", ""},
		{"index", edits(keyless, identity('i'), func(t *Table) { t.IdentityIndex = true }), "", ""},
		{"index that is gone", identity('i'), full, full},
		{"full with a generated column", edits(identity('f'), stored), "", byDefault},
		{"full with a virtual column", edits(identity('f'), virtual), "", byDefault},
		{"full with a generated column and no key", edits(keyless, identity('f'), stored), "", "2"},
		{"none with a virtual column", edits(keyless, virtual), full, "0"},
		{"generated key", edits(stored, func(t *Table) { t.KeyGenerated = true }), "", "2"},
		{"generated index", edits(identity('i'), stored, func(t *Table) { t.IdentityIndex, t.IndexGenerated = true, true }), "", byDefault},
		{"partitioned", partitioned, "", ""},
		{"partitioned without a key", edits(partitioned, keyless, identity('f')), "1", "1"},
	} {
		tbl := table("t", 1, c.edit)
		for version, want := range map[int]string{170000: c.old, 180000: c.new} {
			got := ""
			if r := Refused(version, []Table{tbl}, []Table{tbl}, false); len(r) > 0 {
				require.Len(t, r, 1)
				require.Equal(t, tbl.Name, r[0].Of)
				if got = r[0].Mend; got == "" {
					got = string('0' + rune(r[0].Why))
				}
			}
			assert.Equal(t, want, got, "%s on %d", c.name, version)
		}
	}
	withGenerated := table("t", 1, edits(keyless, identity('f'), stored))
	require.Empty(t, Refused(180000, []Table{withGenerated}, []Table{withGenerated}, true), "generated columns are published")
}

// TestRefusedBelow has partitions: each counts with what is published above it, and by itself.
func TestRefusedBelow(t *testing.T) {
	all := []Table{
		table("root", 1, partitioned), table("mid", 2, edits(partitioned, under(1))), table("leaf", 3, edits(under(2, 1), identity('n'))),
		table("good", 4, under(1)), table("other", 5, keyless),
	}
	got := func(published ...Table) (out []string) {
		for _, r := range Refused(150000, all, published, false) {
			out = append(out, r.Table.Table+" of "+r.Of.Table)
		}
		return out
	}
	require.Equal(t, []string{"leaf of root"}, got(all[0]))
	require.Equal(t, []string{"leaf of mid"}, got(all[1]))
	require.Equal(t, []string{"leaf of leaf"}, got(all[2]))
	require.Empty(t, got(all[3]))
	require.Equal(t, []string{"leaf of root", "other of other"}, got(all[0], all[4]))
	require.Empty(t, got())
}

// plans runs Plan and joins what it says.
func plans(c *Config, st *State, role Role) (p *Plan, text string) {
	p = c.Plan(st, role)
	for _, problem := range p.Problems {
		text += string(problem.Kind) + ": " + problem.Text + "\n"
	}
	for _, w := range p.Warnings {
		text += "warning: " + w + "\n"
	}
	for _, s := range p.Statements {
		text += s + "\n"
	}
	return p, text
}

var (
	plain = Role{Name: "me", Database: "db", Version: 150000, Create: true}                           //nolint:gochecknoglobals // immutable
	super = Role{Name: "me", Database: "db", Version: 150000, Create: true, Super: true, Fresh: true} //nolint:gochecknoglobals // immutable
)

const (
	comment = "COMMENT ON PUBLICATION \"pub\" IS 'made by deltaforge for the source shop'\n"
	via     = " WITH (publish_via_partition_root = true)\n"
	inserts = " WITH (publish = 'insert, truncate', publish_via_partition_root = true)\n" +
		"COMMENT ON PUBLICATION \"pub_inserts\" IS 'made by deltaforge for the source shop'\n"
)

func TestPlanCreate(t *testing.T) {
	item, loose := table("item", 1, nil), table("loose", 2, keyless)
	ev := table("ev", 3, edits(partitioned, keyless))
	ev1 := table("ev_1", 4, edits(keyless, under(3)))
	for _, c := range []struct {
		name, include, exclude string
		tables                 []Table
		role                   Role
		off                    bool
		want                   string
	}{
		{"plain", "public.item", "", []Table{item, loose}, plain, false, `CREATE PUBLICATION "pub" FOR TABLE ONLY "public"."item"` + via + comment},
		{
			"super", "", "",
			[]Table{item},
			super, false,
			`CREATE PUBLICATION "pub" FOR TABLE ONLY "public"."item"` + via + comment + `CREATE PUBLICATION "pub_inserts" FOR ALL TABLES` + inserts,
		},
		{
			"schemas", "shop.* public.*", "",
			[]Table{item},
			super, false,
			`warning: tables.include: shop.*: no table matches: correct the pattern, or make a table; a table that is made later is captured from then on` + "\n" +
				`CREATE PUBLICATION "pub" FOR TABLE ONLY "public"."item"` + via + comment + `CREATE PUBLICATION "pub_inserts" FOR TABLES IN SCHEMA "public", "shop"` + inserts,
		},
		{
			"schemas on 14", "public.*", "",
			[]Table{item},
			Role{Version: 140000, Create: true, Super: true, Fresh: true},
			false,
			`CREATE PUBLICATION "pub" FOR TABLE ONLY "public"."item"` + via + comment,
		},
		{
			"an old slot", "public.*", "",
			[]Table{item},
			Role{Version: 150000, Create: true, Super: true},
			false,
			`CREATE PUBLICATION "pub" FOR TABLE ONLY "public"."item"` + via + comment,
		},
		{"something left out", "", "public.loose", []Table{item, loose}, super, false, `CREATE PUBLICATION "pub" FOR TABLE ONLY "public"."item"` + via + comment},
		{
			"no tables", "", "", nil, plain, false, "warning: there is no table to capture; one that is made later is captured from then on\n" +
				`CREATE PUBLICATION "pub"` + via + comment,
		},
		{
			"refused", "public.loose", "", []Table{loose}, plain, false, "schema: publishing tables that have no replica identity would make the server refuse " +
				`the application's updates and deletes of their rows: ALTER TABLE "public"."loose" REPLICA IDENTITY FULL; or leave them out with tables.exclude; ` +
				`or, where rows are only ever inserted, make the publication yourself: CREATE PUBLICATION "pub" FOR TABLE ONLY "public"."loose" WITH (publish = ` +
				"'insert, truncate', publish_via_partition_root = true)\n",
		},
		{
			"partitions", "public.ev", "", []Table{ev, ev1}, plain, false, "schema: publishing tables that have no replica identity would make the server refuse " +
				`the application's updates and deletes of their rows: ALTER TABLE "public"."ev_1" REPLICA IDENTITY FULL; leave out with tables.exclude ` +
				`"public"."ev", since the partitioned table "public"."ev" has no primary key, so partitions that are made later would have no replica identity; ` +
				`or, where rows are only ever inserted, make the publication yourself: CREATE PUBLICATION "pub" FOR TABLE ONLY "public"."ev" WITH (publish = ` +
				"'insert, truncate', publish_via_partition_root = true)\n",
		},
		{
			"off", "", "", []Table{item, loose, ev, ev1}, plain, true, "other: there is no publication pub and create_publication is off: " +
				`ALTER TABLE "public"."loose" REPLICA IDENTITY FULL; CREATE PUBLICATION "pub" FOR TABLE ONLY "public"."item", ONLY "public"."loose" ` +
				`WITH (publish_via_partition_root = true); without "public"."ev", to be left out with tables.exclude: ` +
				`the partitioned table "public"."ev" has no primary key, so partitions that are made later would have no replica identity` + "\n",
		},
		{
			"may not create", "public.loose", "",
			[]Table{loose},
			Role{Name: "me", Database: "db", Version: 150000},
			false,
			`permission: role me may not create the publication pub: GRANT CREATE ON DATABASE "db" TO "me", or, as another role, ` +
				`ALTER TABLE "public"."loose" REPLICA IDENTITY FULL; CREATE PUBLICATION "pub" FOR TABLE ONLY "public"."loose" WITH (publish_via_partition_root = true)` + "\n",
		},
		{
			"does not own", "public.*", "",
			[]Table{item, table("loose", 2, edits(keyless, func(t *Table) { t.Owned = false }))},
			plain, false,
			`permission: role me does not own "public"."loose", so it may not publish: as a superuser, ALTER TABLE "public"."loose" REPLICA IDENTITY FULL; ` +
				`CREATE PUBLICATION "pub" FOR TABLE ONLY "public"."item", ONLY "public"."loose" WITH (publish_via_partition_root = true)` + "\n",
		},
	} {
		config := &Config{Name: "pub", Source: "shop", Create: !c.off, Filter: filter(t, c.include, c.exclude)}
		_, got := plans(config, &State{Tables: c.tables}, c.role)
		assert.Equal(t, c.want, got, c.name)
	}
}

func TestPlanChange(t *testing.T) {
	item, later, loose := table("item", 1, nil), table("later", 2, nil), table("loose", 3, keyless)
	root, leaf := table("root", 4, partitioned), table("leaf", 5, under(4))
	foreign := table("later", 2, func(t *Table) { t.Owned = false })
	ours := func(edit func(*Publication)) *Publication {
		p := &Publication{OID: 9, ViaRoot: true, Changes: true, Whole: true, Own: true, Members: map[uint32]uint32{1: 100}}
		if edit != nil {
			edit(p)
		}
		return p
	}
	theirs := func(p *Publication) { p.Own = false }
	for _, c := range []struct {
		name   string
		tables []Table
		pub    *Publication
		role   Role
		off    bool
		want   string
		added  []Name
	}{
		{"complete", []Table{item}, ours(nil), plain, false, "", nil},
		{"one more", []Table{item, later}, ours(nil), plain, false, `ALTER PUBLICATION "pub" ADD TABLE ONLY "public"."later"` + "\n", []Name{later.Name}},
		{
			"one without an identity",
			[]Table{item, later, loose},
			ours(nil), plain, false,
			"warning: changes of public.loose are not captured: the server would refuse updates and deletes of its rows, for want of a replica identity: " +
				`ALTER TABLE "public"."loose" REPLICA IDENTITY FULL; it is added within seconds then, and rows that were changed before have to be loaded again` + "\n" +
				`ALTER PUBLICATION "pub" ADD TABLE ONLY "public"."later"` + "\n",
			[]Name{later.Name},
		},
		{
			"one of another owner",
			[]Table{item, foreign},
			ours(nil), plain, false,
			`warning: changes of public.later are not captured, since role me does not own it: as a superuser, ALTER PUBLICATION "pub" ADD TABLE ONLY "public"."later"` + "\n", nil,
		},
		{"one of another owner, super", []Table{item, foreign}, ours(nil), super, false, `ALTER PUBLICATION "pub" ADD TABLE ONLY "public"."later"` + "\n", []Name{later.Name}},
		{
			"somebody else's",
			[]Table{item, later, loose},
			ours(theirs), plain, false,
			`schema: publication pub lacks "public"."later", "public"."loose": ALTER TABLE "public"."loose" REPLICA IDENTITY FULL; ` +
				`ALTER PUBLICATION "pub" ADD TABLE ONLY "public"."later", ONLY "public"."loose"; or leave them out with tables.include or tables.exclude` + "\n", nil,
		},
		{
			"ours, but not to be changed",
			[]Table{item, later},
			ours(nil), plain, true,
			`schema: publication pub lacks "public"."later": ALTER PUBLICATION "pub" ADD TABLE ONLY "public"."later"; or leave them out with tables.include or tables.exclude` + "\n", nil,
		},
		{
			"leaves",
			[]Table{root, leaf},
			ours(func(p *Publication) { p.ViaRoot, p.Members = false, map[uint32]uint32{4: 100} }), plain, false,
			`ALTER PUBLICATION "pub" SET (publish_via_partition_root = true)` + "\n", nil,
		},
		{
			"somebody else's leaves",
			[]Table{root, leaf},
			ours(func(p *Publication) { p.ViaRoot, p.Own, p.Members = false, false, map[uint32]uint32{4: 100} }), plain, false,
			`schema: publication pub publishes partitions under their own names: ALTER PUBLICATION "pub" SET (publish_via_partition_root = true)` + "\n", nil,
		},
		{
			"lost its identity",
			[]Table{loose},
			ours(func(p *Publication) { p.Members = map[uint32]uint32{3: 100} }), plain, false,
			"warning: table public.loose has no replica identity, so the server refuses to update and delete its rows while it is published: " +
				`ALTER TABLE "public"."loose" REPLICA IDENTITY FULL` + "\n", nil,
		},
		{
			"all tables",
			[]Table{item, loose},
			ours(func(p *Publication) { p.AllTables, p.Members = true, nil }), plain, false,
			"warning: table public.loose has no replica identity, so the server refuses to update and delete its rows while it is published: " +
				`ALTER TABLE "public"."loose" REPLICA IDENTITY FULL` + "\n", nil,
		},
		{
			"inserts only",
			[]Table{loose},
			ours(func(p *Publication) {
				p.Changes, p.Whole, p.Own, p.Members = false, false, false, map[uint32]uint32{3: 100}
			}), plain, false,
			"warning: the publication pub does not publish all kinds of changes, so some are missing: ALTER PUBLICATION \"pub\" SET (publish = " +
				"'insert, update, delete, truncate'), after every table in it has a replica identity\n", nil,
		},
	} {
		config := &Config{Name: "pub", Source: "shop", Create: !c.off, Filter: filter(t, "", "")}
		p, got := plans(config, &State{Tables: c.tables, Main: c.pub}, c.role)
		assert.Equal(t, c.want, got, c.name)
		assert.Equal(t, c.added, p.Added, c.name)
	}
}

// TestPlanChangeBesideInserts says what of a table is captured by the publication of inserts.
func TestPlanChangeBesideInserts(t *testing.T) {
	loose := table("loose", 3, keyless)
	config := &Config{Name: "pub", Source: "shop", Create: true, Filter: filter(t, "public.*", "")}
	st := &State{
		Tables: []Table{loose}, Main: &Publication{ViaRoot: true, Changes: true, Whole: true, Own: true},
		Inserts: &Publication{Own: true, Schemas: map[string]bool{"public": true}},
	}
	_, got := plans(config, st, super)
	require.Contains(t, got, "warning: of public.loose only inserts and truncates are captured: the server would refuse")
	require.Equal(t, `"pub","pub_inserts"`, config.Names(st))
	st.Inserts = nil
	require.Equal(t, `"pub"`, config.Names(st))
	require.Empty(t, (&Config{Name: strings.Repeat("x", 60)}).InsertsName())
}

func TestManyTables(t *testing.T) {
	var tables []Table
	for i := range 30 {
		tables = append(tables, table("t"+strings.Repeat("x", i), uint32(i+1), keyless))
	}
	config := &Config{Name: "pub", Source: "shop", Create: true, Filter: filter(t, "", "")}
	p, text := plans(config, &State{Tables: tables}, plain)
	require.Len(t, p.Problems, 1)
	require.Equal(t, fault.KindSchema, p.Problems[0].Kind)
	require.Equal(t, 20, strings.Count(text, "REPLICA IDENTITY FULL"))
	require.Contains(t, text, " (and 10 further tables)")
	members := map[uint32]uint32{}
	for _, tbl := range tables {
		members[tbl.OID] = tbl.OID
	}
	p, _ = plans(config, &State{Tables: tables, Main: &Publication{ViaRoot: true, Changes: true, Whole: true, Own: true, Members: members}}, plain)
	require.Len(t, p.Warnings, 21)
	require.Equal(t, "the server refuses updates and deletes of 10 further tables", p.Warnings[20])
}

func TestMeddled(t *testing.T) {
	a, b := table("a", 1, nil), table("b", 2, nil)
	state := func(members map[uint32]uint32) *State {
		return &State{Tables: []Table{a, b}, Main: &Publication{ViaRoot: true, Members: members}}
	}
	c := &Config{Name: "pub", Filter: filter(t, "", "")}
	before := state(map[uint32]uint32{1: 10})
	require.Empty(t, Meddled(before, before, c))
	require.Equal(t, []string{
		"somebody has taken the table public.a out of the publication pub: its changes are missing from then on",
		"somebody has added the table public.b to the publication pub: its changes are captured from then on, and rows that it had already are not " +
			"read: load it at the consumers",
	}, Meddled(before, state(map[uint32]uint32{2: 11}), c))
	require.Equal(t, []string{
		"somebody has taken the table public.a out of the publication pub and has added it again: its changes between are missing: load it again " +
			"at the consumers",
	}, Meddled(before, state(map[uint32]uint32{1: 12}), c))
	require.Empty(t, Meddled(before, &State{Main: &Publication{AllTables: true}}, c))
	require.Empty(t, Meddled(before, &State{}, c))
}

func TestHas(t *testing.T) {
	root, leaf := table("root", 1, partitioned), table("leaf", 2, under(1))
	for _, c := range []struct {
		pub        Publication
		root, leaf bool
	}{
		{Publication{}, false, false},
		{Publication{AllTables: true}, true, true},
		{Publication{Schemas: map[string]bool{"public": true}}, true, true},
		{Publication{Members: map[uint32]uint32{1: 9}}, true, true},
		{Publication{Members: map[uint32]uint32{1: 9}, ViaRoot: true}, true, false},
		{Publication{Members: map[uint32]uint32{2: 9}}, false, true},
	} {
		require.Equal(t, c.root, c.pub.Has(&root))
		require.Equal(t, c.leaf, c.pub.Has(&leaf))
	}
}
