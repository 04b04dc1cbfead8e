package postgrescdc

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
)

func TestInsertUpdateDelete(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE item (id int PRIMARY KEY, name text, price numeric(10,2))")
	r, log := d.source("")
	s := d.run(r, checkpoint.Token{})
	d.exec(
		"INSERT INTO item VALUES (1, 'a', 10), (2, 'b', NULL)",
		"UPDATE item SET price = 12.5 WHERE id = 1",
		"UPDATE item SET id = 3 WHERE id = 2",
		"DELETE FROM item WHERE id = 1",
		"TRUNCATE item",
	)
	require.Equal(t, []string{
		`c item {"before":null,"after":{"id":1,"name":"a","price":"10.00"}}`,
		`c item {"before":null,"after":{"id":2,"name":"b","price":null}}`,
		`u item {"before":null,"after":{"id":1,"name":"a","price":"12.50"}}`,
		`u item {"before":{"id":2},"after":{"id":3,"name":"b","price":null}}`,
		`d item {"before":{"id":1},"after":null}`,
		`t item {"before":null,"after":null}`,
	}, shorts(t, s.events(6)))
	t.Log(log.all())
}
