package redistest

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// binaryEnv names the variable that overrides PATH for a program.
var binaryEnv = map[string]string{
	"redis-server":  "LIFEGUARD_REDIS_BIN",
	"valkey-server": "LIFEGUARD_VALKEY_BIN",
}

// Binary is the path of a server program, "redis-server" or "valkey-server".
// Where there is none the test skips, or fails with CI=true.
func Binary(t testing.TB, name string) string {
	t.Helper()
	path, err := findBinary(name)
	if err != nil {
		Missing(t, err.Error())
	}
	return path
}

func findBinary(name string) (string, error) {
	env, ok := binaryEnv[name]
	if !ok {
		return "", fmt.Errorf("redistest: unknown server program %q: want redis-server or valkey-server", name)
	}
	if v := os.Getenv(env); v != "" {
		path, err := exec.LookPath(v)
		if err != nil {
			return "", fmt.Errorf("redistest: %s=%s: %w", env, v, err)
		}
		return path, nil
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("redistest: no %s on PATH: install it or set %s", name, env)
	}
	return path, nil
}
