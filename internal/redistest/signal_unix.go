//go:build unix

package redistest

import "syscall"

func (p *process) stop() error { return p.signal(syscall.SIGSTOP, true) }
func (p *process) cont() error { return p.signal(syscall.SIGCONT, false) }
