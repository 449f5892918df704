package redistest

import (
	"os/exec"
	"syscall"
)

// endWithParent has the kernel end the server with the test binary, whatever
// that dies of: a panic, a timeout, kill -9.
func endWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
