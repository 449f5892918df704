// Package embed gives the examples a server where none is named: one that runs
// inside the process, so that nothing has to be installed.
package embed

import (
	"fmt"

	"github.com/alicebob/miniredis/v2"
)

// Server returns addr, or the address of a server of its own if that is empty.
// stop ends what was started.
func Server(addr string) (_ string, stop func(), err error) {
	if addr != "" {
		return addr, func() {}, nil
	}
	m := miniredis.NewMiniRedis()
	if err := m.Start(); err != nil {
		return "", nil, fmt.Errorf("embedded server: %w", err)
	}
	return m.Addr(), m.Close, nil
}
