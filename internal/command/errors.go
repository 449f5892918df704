package command

import "github.com/redis/go-redis/v9"

// SetErrs sets the error of each command, nil for none, and returns it.
//
//go:noinline
func SetErrs(cmds []redis.Cmder, err error) error {
	for _, cmd := range cmds {
		cmd.SetErr(err)
	}
	return err
}
