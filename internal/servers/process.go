package servers

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"
)

// process is a running child.
type process struct {
	cmd     *exec.Cmd
	logPath string
	done    chan struct{} // closed when the child is gone
	err     error         // how it ended; set before done is closed
	reaped  atomic.Bool
}

// startProcess executes c in a process group of its own, so that an interrupt typed at the terminal does not reach it, and makes the
// kernel end it when this process dies. The kernel binds that to the thread that forks, not to the process: the goroutine
// that forks keeps its thread until the child is gone.
func startProcess(name string, c command, logPath string, extra io.Writer, onDeath syscall.Signal) (*process, error) {
	logFile, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", name, err)
	}
	if onDeath == 0 {
		onDeath = syscall.SIGKILL
	}
	cmd := exec.Command(c.args[0], c.args[1:]...) //nolint:noctx // outlives the context of its start; Stop, Kill and Close end it
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = logFile, logFile
	if extra != nil {
		both := io.MultiWriter(logFile, extra)
		cmd.Stdout, cmd.Stderr = both, both
	}
	// Orphans of a killed server may hold the pipe open.
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = childAttr(c.cred, onDeath)
	p := &process{cmd: cmd, logPath: logPath, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				p.err = fmt.Errorf("panic while starting or awaiting %s: %v\n%s", name, r, debug.Stack())
				p.reaped.Store(true)
				close(p.done)
				select {
				case started <- p.err:
				default:
				}
			}
		}()
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer logFile.Close()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		p.reaped.Store(true)
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return p, nil
}

func (p *process) exited() bool { return p.reaped.Load() }

// result is how the process ended; only after done.
func (p *process) result() error {
	if p.err == nil {
		return fmt.Errorf("exit status 0")
	}
	return p.err
}

// signal sends sig to the process, and to its whole group if sig stops or ends it at once.
func (p *process) signal(sig syscall.Signal) {
	if p.exited() {
		return
	}
	pid := p.cmd.Process.Pid
	if sig == syscall.SIGKILL || sig == syscall.SIGSTOP || sig == syscall.SIGCONT {
		pid = -pid
	}
	_ = syscall.Kill(pid, sig) // the only other answer is that it is gone
}

// tail returns the end of the log.
func (p *process) tail() string { return tail(p.logPath) }

func tail(path string) string {
	const size = 4096
	file, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() > size {
		if _, err := file.Seek(-size, io.SeekEnd); err != nil {
			return err.Error()
		}
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(text))
}

// runTool runs a short-lived program, such as the one that creates a data directory, and returns its output in the error when it
// fails. Its children go with it when ctx ends.
func runTool(ctx context.Context, what string, c command) error {
	cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...)
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Dir = "/"
	cmd.SysProcAttr = childAttr(c.cred, syscall.SIGKILL)
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	runtime.LockOSThread() // see startProcess
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w; it printed:\n%s", what, err, bytes.TrimSpace(out[max(0, len(out)-4096):]))
	}
	return nil
}
