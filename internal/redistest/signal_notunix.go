//go:build !unix

package redistest

import "errors"

var errNoStop = errors.New("redistest: this system cannot stop and continue a process")

func (p *process) stop() error { return errNoStop }
func (p *process) cont() error { return errNoStop }
