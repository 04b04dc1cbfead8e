package needs

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// The foreign keys in the statement of a table, as MariaDB shows it.
func TestForeignKeyPattern(t *testing.T) {
	const text = "CREATE TABLE `child` (\n  `id` int(11) NOT NULL,\n  `p` int(11) DEFAULT NULL COMMENT 'CONSTRAINT `no` FOREIGN KEY (`p`) REFERENCES `x` (`y`) ON DELETE CASCADE',\n" +
		"  PRIMARY KEY (`id`),\n  KEY `k` (`p`),\n" +
		"  CONSTRAINT `a``b` FOREIGN KEY (`p`) REFERENCES `parent` (`id`) ON DELETE CASCADE ON UPDATE SET NULL,\n" +
		"  CONSTRAINT `c` FOREIGN KEY (`p`, `id (x)`) REFERENCES `far`.`par.ent` (`id`, `q)`) ON UPDATE CASCADE,\n" +
		"  CONSTRAINT `d` FOREIGN KEY (`p`) REFERENCES `parent` (`id`) ON DELETE NO ACTION,\n" +
		"  CONSTRAINT `e` FOREIGN KEY (`p`) REFERENCES `parent` (`id`),\n" +
		"  CONSTRAINT `f` CHECK (`p` > 0)\n) ENGINE=InnoDB"
	var got [][]string
	for _, m := range foreignKey.FindAllStringSubmatch(text, -1) {
		got = append(got, []string{unquote(m[1]), unquote(m[2]), rulesOf(m[3])})
	}
	assert.Equal(t, [][]string{
		{"a`b", "parent", "ON DELETE CASCADE, ON UPDATE SET NULL"}, {"c", "far.par.ent", "ON UPDATE CASCADE"}, {"d", "parent", ""}, {"e", "parent", ""},
	}, got)
}
