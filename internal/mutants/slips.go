package main

import "slices"

// slips returns what is planted: the slips that a person makes, on the way that a row and its position take.
func slips() []slip {
	return slices.Concat(sources(), newer(), sinks(), control())
}

func sources() []slip {
	return []slip{
		{
			name: "a failed save is not tried again", file: "internal/coordinator/saver.go",
			old: "\t\t\ts.rearm()\n\t\t}\n\t\tif sleep(", new: "\t\t}\n\t\tif sleep(",
		},
		{
			name: "the position is confirmed before it is saved", file: "internal/coordinator/saver.go",
			old: "\tbegan := time.Now()\n\tin := s.in\n", new: "\tbegan := time.Now()\n\tin := s.in\n\tin.log.Confirm(p.token)\n",
		},
		{
			name: "a batch that was rejected goes out with its neighbours for ever", file: "internal/coordinator/refuse.go",
			old: "dl.refusal.times++", new: "dl.refusal.times = 1",
		},
		{
			name: "the source is caught up for ever", file: "internal/coordinator/internal/lag/lag.go",
			old: "l.atEnd, l.known = false, r.Committed", new: "l.known = r.Committed",
		},
		{
			name: "what is read and not saved is no lag", file: "internal/coordinator/internal/lag/lag.go",
			old: "\tif len(l.unsaved) > 0 {", new: "\tif false {", pkgs: []string{"./internal/coordinator"},
		},
		{
			name: "a source is never stuck", file: "internal/coordinator/internal/health/health.go",
			old: "now.Sub(t.since) >= StuckAfter", new: "now.Sub(t.since) < 0", pkgs: []string{"./internal/coordinator"},
		},
		{
			name: "a lost position is tried again for ever", file: "internal/coordinator/internal/health/health.go",
			old: "final: errors.Is(err, fault.ErrPositionLost) ||", new: "final:", pkgs: []string{"./internal/coordinator"},
		},
		{
			name: "a place in the sink moves backwards", file: "internal/coordinator/exact.go",
			old: "p.order < x.written.order || p.mark", new: "p.mark",
		},
		{
			name: "the progress of a snapshot waits for a row", file: "internal/coordinator/exact.go",
			old: " && !x.pending() {", new: " {",
		},
		{
			name: "the events of a part keep their places in the batch", file: "internal/coordinator/exact.go",
			old: "ev.Mark.Batch, ev.Mark.N = b, i+1", new: "ev.Mark.N += 0 * i",
		},
		{
			name: "the embedded store does not wait for the disk", file: "internal/sqlitefile/sqlitefile.go",
			old: `"synchronous(FULL)"`, new: `"synchronous(OFF)"`, pkgs: []string{"./checkpoint"},
		},
		{
			name: "a keepalive inside a transaction is a position", file: "inputs/postgrescdc/log.go",
			old: "\tif s.tx != nil {\n\t\treturn nil\n\t}\n\ts.advance(k.End)", new: "\ts.advance(k.End)",
		},
		{
			name: "a keepalive is a position while events are skipped", file: "inputs/postgrescdc/log.go",
			old: "\tif s.skip > 0 {\n\t\t// A position", new: "\tif false {\n\t\t// A position",
		},
		{
			name: "a chunk sees what has not ended", file: "inputs/postgrescdc/internal/chunk/view.go",
			old: "\treturn !running\n", new: "\treturn !running || true\n",
		},
		{
			name: "a chunk waits for a place after the header of a page", file: "inputs/postgrescdc/internal/chunk/view.go",
			old: "return insert - pageHeader", new: "return insert",
		},
		{
			name: "a row that could not be written is delivered as far as it was", file: "inputs/mysqlcdc/internal/row/direct.go",
			old: "\tw.failed = !ok\n\treturn out, ok", new: "\treturn out, ok",
		},
		{
			name: "an unchanged value is not looked for in the old row", file: "inputs/postgrescdc/internal/row/direct.go",
			old: "if w.had || slices", new: "if slices",
		},
		{
			name: "event ids count from another number", file: "internal/change/event.go",
			old: "strconv.AppendUint(dst, e.Index, 10)", new: "strconv.AppendUint(dst, e.Index+1, 10)", pkgs: []string{"./internal/envelope"},
		},
		{
			name: "a key that a processor has deleted comes back", file: "internal/change/metadata.go",
			old: "if !ours || ev.Table.Source.Metadata.Has(key) {", new: "if !ours {", pkgs: []string{"./internal/envelope"},
		},
		{
			name: "metadata that a processor has set counts for nothing", file: "internal/change/metadata.go",
			old: "\tv, ok := m.MetaGetImmut(key)\n\tif !ok {", new: "\tv, ok := m.MetaGetImmut(key)\n\tif true {", pkgs: []string{"./internal/envelope"},
		},
		{
			name: "the run of one table goes on in the next", file: "internal/change/message.go",
			old: "k.table != ev.Table || ", new: "", pkgs: []string{"./internal/envelope"},
		},
		{
			name: "two shapes have one fingerprint", file: "internal/change/table.go",
			old: `dst = append(strconv.AppendQuote(dst, c.Type), ' ')`, new: `dst = append(dst, ' ')`,
		},
		{
			name: "an absent column is null", file: "internal/envelope/rows.go",
			old: "if row[i].Kind() == change.Absent {", new: "if false {",
		},
	}
}

// newer are slips in what came last: values that are made late, rows that are read again, offsets of other connectors, batches that grow.
func newer() []slip {
	return []slip{
		{
			name: "all rows of an event have the values of the first", file: "internal/change/images.go",
			old: "return Images{r, n}", new: "return Images{r, 0 * n}", pkgs: []string{"./inputs/mysqlcdc/internal/row"},
		},
		{
			name: "a row that has changed since is taken for that of the event", file: "processors/reselect/reselect.go",
			old: "case changed == \"\" || p.whenChanged == fill:", new: "case true:",
		},
		{
			name: "a row is looked for by the key that is not in its event", file: "processors/reselect/reselect.go",
			old: "if !v.Known() && ev.Before() != nil {", new: "if false {",
		},
		{
			name: "an event of which a connector has delivered a part counts as delivered", file: "inputs/mysqlcdc/internal/offset/offset.go",
			old: "\t\tn = int(c.offset.Rows)\n", new: "",
		},
		{
			name: "a batch waits until it has grown", file: "internal/coordinator/batch.go",
			old: "case b.full(), b.reached(1) && b.s.asking.Load():", new: "case b.full():",
		},
	}
}

func sinks() []slip {
	return []slip{
		{
			name: "a refusal stays in the attempt", file: "outputs/kafkaout/attempt.go",
			old: "a.failed, a.work, a.held, a.sent, a.errs, a.gone = messages, nil, nil,", new: "a.failed, a.work, a.held, a.sent, a.errs, a.gone = messages, a.failed, nil,",
		},
		{
			name: "another batch is taken for the parked one", file: "outputs/kafkaout/attempt.go",
			old: "|| !sameBytes(x.Value, y.Value)", new: "|| len(x.Value) != len(y.Value)",
		},
		{
			name: "the last topic is that of another schema", file: "outputs/kafkaout/record.go",
			old: " && string(schema) == b.lastTable.schema {", new: " {",
		},
		{
			name: "an empty payload becomes a tombstone", file: "outputs/kafkaout/record.go",
			old: "\tcase value == nil:", new: "\tcase false:",
		},
		{
			name: "a record that was damaged on the way is dropped", file: "outputs/kafkaout/errors.go",
			old: "return !errors.Is(cause, kerr.CorruptMessage)", new: "return true",
		},
		{
			name: "an entry above the buffer is lost", file: "outputs/redisout/attempt.go",
			old: "len(tx) > 0 && (size > limit || e.sweep != \"\") {", new: "size > limit || len(tx) > 0 && e.sweep != \"\" {",
		},
		{
			name: "another batch is taken for the parked one", file: "outputs/redisout/entry.go",
			old: "\n\t\te.event == o.event", new: "\n\t\tlen(e.event) == len(o.event)",
		},
	}
}

func control() []slip {
	return []slip{
		{
			name: "a failure is shown with its secrets", file: "internal/control/health.go",
			old: "st.Reason = redact.Text(st.Reason)", new: "_ = redact.Text",
		},
		{
			name: "the source that is least late speaks", file: "internal/control/health.go",
			old: "cmp.Compare(b.LagSeconds, a.LagSeconds)", new: "cmp.Compare(a.LagSeconds, b.LagSeconds)",
		},
		{
			name: "a stopped pipeline shows its old failure", file: "internal/control/health.go",
			old: "\tcase p.status == state.Stopped: // whatever was wrong with it before\n\t\treturn state.Stopped, \"\"\n", new: "",
		},
		{
			name: "a source that tries again is ready", file: "internal/control/health.go",
			old: "if r.State == contract.Retrying {", new: "if false {",
		},
		{
			name: "strangers may reach a control plane without credentials", file: "internal/control/control.go",
			old: "s.opts.Credentials.Any() || s.local() || s.opts.Insecure", new: "true",
		},
		{
			name: "any host is this machine", file: "internal/control/auth.go",
			old: "if !door.OwnHost(r.Host) {", new: "if false {",
		},
		{
			name: "a wrong token is a token", file: "internal/control/door/credentials.go", pkgs: []string{"./internal/control"},
			old: `c.Token != "" && same(token, c.Token)`, new: `c.Token != "" && token != ""`,
		},
		{
			name: "a default in a reference is shown", file: "internal/control/document/redact.go",
			old: `return "${" + m[1] + ":" + Mask + "}", true`, new: `return s, true`,
		},
		{
			name: "the environment is echoed", file: "internal/control/document/yaml.go", pkgs: []string{"./internal/control"},
			old: "len(v) > 1 {", new: "len(v) > 1<<20 {",
		},
		{
			name: "an edit of a file starts a stopped pipeline", file: "internal/control/lifecycle.go",
			old: "\tif p.status != state.Stopped {\n\t\tif err := s.swap(", new: "\tif true {\n\t\tif err := s.swap(",
		},
		{
			name: "a secret is masked only where it stands for itself", file: "internal/redact/redact.go",
			old: "case len(v) >= 2*shortest:", new: "case len(v) >= 20*shortest:",
		},
		{
			name: "a source has the label of its input", file: "metrics/stats.go",
			old: "s.sources.Load(placeOf(in)); ok && label == labelSource {", new: "s.sources.Load(placeOf(in)); ok && label == \"\" {",
		},
		// Loading tables.
		{
			name: "a chunk's row is delivered though the stream has changed it", file: "internal/snapshot/join.go",
			old: "if f := j.fateOf(fates, m); f != nil {", new: "if f := j.fateOf(fates, m); f != nil && false {", pkgs: []string{"./internal/coordinator"},
		},
		{
			name: "a row whose event lacks values is not read again", file: "internal/snapshot/join.go",
			old: "if f.lacks != nil && !f.whole && r.part >= 0 {", new: "if false {", pkgs: []string{"./internal/coordinator"},
		},
		{
			name: "a row that has moved in front of what is read is not read again", file: "internal/snapshot/join.go",
			old: "if now.lacks != nil && (!r.allSent() || j.owed(r, ev)) {", new: "if false {", pkgs: []string{"./internal/coordinator"},
		},
		{
			name: "changes are forgotten that an older view does not see", file: "internal/snapshot/join.go",
			old: "if b <= r.opened && b != r.begun {", new: "if b < r.begun {", pkgs: []string{"./internal/coordinator"},
		},
		{
			name: "a chunk is put into the stream before what it saw", file: "internal/snapshot/join.go",
			old: "if j.current(r) && !r.view.Reached(j.at) {", new: "if false {", pkgs: []string{"./internal/coordinator"},
		},
		{
			name: "a table is followed from inside a transaction", file: "internal/snapshot/join.go",
			old: "\t\tj.between = false\n", new: "", pkgs: []string{"./internal/coordinator"},
		},
		{
			name: "chunks that were cut and not handed out count as delivered", file: "internal/snapshot/join.go",
			old: "func(s step) bool { return s.mark > mark }", new: "func(step) bool { return false }", pkgs: []string{"./internal/coordinator"},
		},
		{
			name: "a first start is forgotten before its tables are listed", file: "internal/snapshot/loader.go",
			old: "\t\tl.touch() // so that no position is saved without it\n", new: "", pkgs: []string{"./internal/coordinator"},
		},
		{
			name: "rows go out before the first position is saved", file: "internal/coordinator/session.go",
			old: "if busy || begun != nil {", new: "if busy {",
		},
	}
}
