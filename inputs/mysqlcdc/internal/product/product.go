// Package product names the products that speak the protocol. Their logs and statements differ in places.
package product

// The values of flavor. Auto is neither product: the server is asked.
const (
	Auto    = "auto"
	MySQL   = "mysql"
	MariaDB = "mariadb"
)
