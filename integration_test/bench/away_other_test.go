//go:build !linux

package bench_test

import "time"

// A pauser sleeps. On Linux it does so precisely.
type pauser struct{}

func newPauser() (*pauser, error) { return &pauser{}, nil }

func (*pauser) pause(d time.Duration) error {
	time.Sleep(d)
	return nil
}

func (*pauser) close() {}
