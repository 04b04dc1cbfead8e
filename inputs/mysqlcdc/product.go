package mysqlcdc

const (
	flavorAuto    = "auto"
	flavorMySQL   = "mysql"
	flavorMariaDB = "mariadb"
)
