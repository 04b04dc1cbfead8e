package ddl

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/charset"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/shape"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
)

// corpus is the DDL of ../../testdata/ddl.sql as a server has logged it. DELTAFORGE_UPDATE=1 makes TestCorpus of the input write it, which
// compares the shapes with the server's own word after each statement.
type corpus struct {
	Version string
	// Charsets are what that server listed, State what there was before the first statement.
	Charsets   charset.Info
	State      shape.State
	Statements []struct {
		Text, DB          string
		SQLMode           uint64
		ServerCollation   string
		DefaultUTF8MB4    string
		ImplicitTimestamp bool
		ThreadSpecific    bool
	}
}

// TestCorpus applies the recorded statements. What each changes is in the golden file: DELTAFORGE_UPDATE=1 writes that, too.
func TestCorpus(t *testing.T) {
	for _, flavor := range []string{product.MySQL, product.MariaDB} {
		t.Run(flavor, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("testdata", "corpus-"+flavor+".json"))
			require.NoError(t, err)
			var c corpus
			require.NoError(t, json.Unmarshal(text, &c))
			require.Greater(t, len(c.Statements), 150)
			a := NewApplier(statement.NewDialect(flavor, c.Version), c.Charsets, false, func(string) bool { return false })
			var got strings.Builder
			for _, s := range c.Statements {
				res, err := a.Apply(c.State, Statement{
					Text: s.Text, DB: s.DB, Mode: statement.ModeOf(s.SQLMode), ServerCollation: s.ServerCollation,
					DefaultUTF8MB4: s.DefaultUTF8MB4, ImplicitTimestamp: s.ImplicitTimestamp, ThreadSpecific: s.ThreadSpecific,
				})
				require.NoError(t, err, s.Text)
				fmt.Fprintf(&got, "%s\n", s.Text)
				for _, change := range res.Changes {
					line, err := json.Marshal(change)
					require.NoError(t, err)
					fmt.Fprintf(&got, "\t%s\n", line)
				}
				c.State.Apply(res.Changes)
			}
			golden := filepath.Join("testdata", "corpus-"+flavor+".golden")
			if os.Getenv("DELTAFORGE_UPDATE") != "" {
				require.NoError(t, os.WriteFile(golden, []byte(got.String()), 0o600))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			require.Equal(t, string(want), got.String())
		})
	}
}
