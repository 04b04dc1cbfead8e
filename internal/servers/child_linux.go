package servers

import "syscall"

// childAttr puts a child into a process group of its own, as a user, and makes the kernel end it when the thread that has started it
// dies.
func childAttr(cred *syscall.Credential, onDeath syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: onDeath, Credential: cred}
}
