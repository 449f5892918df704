//go:build !linux

package redistest

import "os/exec"

// endWithParent does nothing here: only Main and Cleanup end the server.
func endWithParent(*exec.Cmd) {}
