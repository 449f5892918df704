package redistest

import (
	"fmt"
	"os/exec"
	"slices"
	"testing"

	"github.com/lifeguard-redis/lifeguard/internal/redistest/program"
)

// Binary returns the path of a server program, "redis-server" or "valkey-server".
// Without one the test skips, or fails with CI=true.
func Binary(t testing.TB, name string) string {
	t.Helper()
	path, err := findBinary(name)
	if err != nil {
		Missing(t, err.Error())
	}
	return path
}

func findBinary(name string) (string, error) {
	i := slices.IndexFunc(program.All, func(p program.Program) bool { return p.Name == name })
	if i < 0 {
		return "", fmt.Errorf("redistest: unknown server program %q: want redis-server or valkey-server", name)
	}
	p := program.All[i]
	if path, err := p.Chosen(); err != nil {
		return "", fmt.Errorf("redistest: %w", err)
	} else if path != "" {
		return path, nil
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("redistest: no %s on PATH: install it or set %s", name, p.Env)
	}
	return path, nil
}
