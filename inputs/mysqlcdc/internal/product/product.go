// Package product names the products that speak the protocol. Their logs and statements differ in places.
package product

// The values of flavor. Auto is neither product: the server is asked.
const (
	Auto    = "auto"
	MySQL   = "mysql"
	MariaDB = "mariadb"
)

// MariaIdentity identifies a MariaDB server, which has no UUID. Later 10.11 and everything after have server_uid, which stays the same over
// restarts.
func MariaIdentity(serverUID, serverID string) string {
	if serverUID == "" {
		return "mariadb:server_id=" + serverID
	}
	return "mariadb:" + serverUID
}
