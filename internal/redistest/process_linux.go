package redistest

import (
	"os/exec"
	"syscall"
)

// endWithParent has the kernel end the server with the test binary, whatever
// that dies of: a panic, a timeout, kill -9. The kernel goes by the thread: no
// goroutine of a test may end while it has its thread locked, for that ends the
// thread, and with it the servers that were started from it.
func endWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
