// Package program names the server programs that tests start, and the environment variables that
// select them.
package program

import (
	"fmt"
	"os"
	"os/exec"
)

// Program is a server program.
type Program struct {
	Name string // on PATH
	Env  string // the variable that names another one
}

// Redis is the server that most tests use, and All are the programs that the tests need.
var (
	Redis = Program{"redis-server", "LIFEGUARD_REDIS_BIN"}
	All   = []Program{Redis, {"valkey-server", "LIFEGUARD_VALKEY_BIN"}}
)

// Further are variables that name the programs of other versions, to try what depends on the
// server's version. .ci/run sets them.
var Further = map[string]string{
	"Redis 7.0": "LIFEGUARD_REDIS70_BIN",
	"Redis 8.6": "LIFEGUARD_REDIS86_BIN",
}

// Chosen returns the program that the variable names; "": it is not set.
func (p Program) Chosen() (path string, err error) {
	v := os.Getenv(p.Env)
	if v == "" {
		return "", nil
	}
	if path, err = exec.LookPath(v); err != nil {
		return "", fmt.Errorf("%s=%s: %w", p.Env, v, err)
	}
	return path, nil
}
