//go:build unix && !linux

package servers

import "syscall"

// childAttr puts a child into a process group of its own, as a user. Nothing but Linux ends it when this process is killed.
func childAttr(cred *syscall.Credential, _ syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: cred}
}
