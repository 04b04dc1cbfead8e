package catalog

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
)

// TestLiteral: MySQL shows a default as it is, MariaDB as SQL.
func TestLiteral(t *testing.T) {
	for _, c := range []struct{ flavor, shown, extra, want string }{
		{product.MySQL, "new", "", "new"},
		{product.MySQL, "uuid()", "DEFAULT_GENERATED", "-"},
		{product.MySQL, "0.00", "", "0.00"},
		{product.MariaDB, "'it''s'", "", "it's"},
		{product.MariaDB, `'\n'`, "", "-"},
		{product.MariaDB, "-1.50", "", "-1.50"},
		{product.MariaDB, "NULL", "", "-"},
		{product.MariaDB, "current_timestamp()", "", "-"},
		{product.MariaDB, "inf", "", "-"},
	} {
		got := "-"
		if p := literal(c.flavor, c.shown, c.extra); p != nil {
			got = *p
		}
		require.Equal(t, c.want, got, c.shown)
	}
}
