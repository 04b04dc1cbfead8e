package deltaforge

import (
	_ "github.com/redpanda-data/benthos/v4/public/service"
	_ "github.com/redpanda-data/benthos/v4/public/components/io"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure/extended"
	_ "github.com/go-mysql-org/go-mysql/replication"
	_ "github.com/go-mysql-org/go-mysql/canal"
	_ "github.com/pingcap/tidb/pkg/parser"
	_ "github.com/jackc/pgx/v5"
	_ "github.com/jackc/pglogrepl"
	_ "github.com/twmb/franz-go/pkg/kgo"
	_ "github.com/twmb/franz-go/pkg/kadm"
	_ "github.com/twmb/franz-go/pkg/kfake"
	_ "github.com/redis/go-redis/v9"
	_ "modernc.org/sqlite"
	_ "github.com/fergusstrange/embedded-postgres"
	_ "github.com/prometheus/client_golang/prometheus/promhttp"
	_ "github.com/stretchr/testify/require"
	_ "go.uber.org/goleak"
)
