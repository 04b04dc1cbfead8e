package catalog

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestLiteral: the defaults that are literals, as PostgreSQL shows them, and some that are not.
func TestLiteral(t *testing.T) {
	for expression, want := range map[string]string{
		"'new'::text": "new", "'it''s'::character varying": "it's", "''::text": "", "42": "42", "(-1)": "-1", "'-1'::integer": "-1", "0.50": "0.50", "(-1.5)::numeric(10,2)": "-1.5",
		"true": "true", "'2024-02-29'::date": "2024-02-29", "'2024-02-29 13:51:30'::timestamp without time zone": "2024-02-29 13:51:30", "(0)::numeric": "0",
		"now()": "-", "CURRENT_TIMESTAMP": "-", "nextval('t_id_seq'::regclass)": "-", "'a'::bpchar": "-", "('a'::text || 'b'::text)": "-", "NULL::text": "-", "E'\\n'::text": "-",
		"(1 + 1)": "-", "'a'::character(3)": "-",
	} {
		got := "-"
		if p := literal(expression); p != nil {
			got = *p
		}
		require.Equal(t, want, got, expression)
	}
}
