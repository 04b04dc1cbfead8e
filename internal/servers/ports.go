package servers

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"sync"
	"syscall"
)

// reserved are the sockets of the ports that FreePort has returned. They are open until the process ends.
var reserved struct { //nolint:gochecknoglobals // a port is the machine's
	mu   sync.Mutex
	held []net.Listener
}

// reserve takes a port for this process, and reports whether it was to be had. Processes agree on it by a socket that has a name and no file (an
// abstract one, unix(7)); where there are none, nothing is reserved.
func reserve(port int) (bool, error) {
	if runtime.GOOS != "linux" {
		return true, nil
	}
	socket, err := net.Listen("unix", "@deltaforge-port-"+strconv.Itoa(port)) //nolint:noctx // it does not wait
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("reserving a port: %w", err)
	}
	reserved.mu.Lock()
	defer reserved.mu.Unlock()
	reserved.held = append(reserved.held, socket)
	return true, nil
}
