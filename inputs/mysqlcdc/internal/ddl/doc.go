// Package ddl works out what the statements of the log do to the shapes of tables.
//
// # The way of a statement
//
//		text in UTF-8 ─► statement.Tokenize ─► reduce ─► TiDB's parser ─► run ─► []shape.Change
//
//	 1. The session decodes the text from the client's character set (a query event says which one) and hands it to Applier.Apply, with
//	    the current database and what of the session decides how SQL is read: sql_mode, default collations.
//	 2. changesTables looks at the first words. What is about no table ends here, so that no view or procedure has to be understood.
//	 3. statement.Tokenize splits the text as the server does that has run it: executable comments depend on product and version.
//	 4. reduce (reduce.go, create.go, alter.go, column.go, index.go) rewrites the statement into the part of SQL that the parser and both
//	    servers have in common. Types are taken out, since the parser reads many of them differently or not at all: a column's type is
//	    VARBINARY(n) for reduced.types[n]. So are character sets: the comment 'n' of a table stands for reduced.charsets[n]. Whatever
//	    changes no shape goes. What only one product has, and matters, becomes a field of reduced: system versioning, periods, names that
//	    may be missing. What is not known is errNotUnderstood, and never left out.
//	 5. The parser turns the rewritten text into a tree. It sees nothing but names, kinds of clauses and their order.
//	 6. run (apply.go, table.go) walks the tree with the state of shapes before the statement, and works out what the server does:
//	    coltype.go gives each type the form that information_schema shows, colconvert.go knows CONVERT TO CHARACTER SET. A clause that does
//	    not fit the shape is errNotApplied: the history lacks a statement.
//	 7. The result is changes, each a new shape of a table. The session applies them to its state, and writes them into the history.
//
// An example, with the table t (a INT):
//
//	ALTER TABLE t ADD b VARCHAR(10) CHARACTER SET latin1 AFTER a, COMMENT 'x', ALGORITHM=INPLACE
//	reduced:  ALTER TABLE `t` ADD COLUMN `b` VARBINARY(0) AFTER `a`
//	types[0]: VARCHAR, arguments 10, character set latin1
//	change:   t (a int, b varchar(10) latin1_swedish_ci)
//
// A statement of which a part is not understood names its tables nevertheless (Result.Tables): whether that matters is up to what the
// configuration captures.
package ddl
