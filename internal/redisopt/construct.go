package redisopt

import "fmt"

// Construct calls a constructor of go-redis and turns its panics into errors.
func Construct[T any](construct func() T) (v T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("lifeguard/managed: go-redis refuses these options: %v", p)
		}
	}()
	return construct(), nil
}
