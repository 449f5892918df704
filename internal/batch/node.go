package batch

import (
	"context"
	"time"
)

// Settings say how large batches get, and when they are sent.
type Settings struct {
	Size        int           // commands at most
	Delay       time.Duration // how long a batch that is not full waits for more commands
	Concurrency int           // batches under way at a time
}

// Node is a server that batches are sent to, with the pools of connections to it. It
// is safe for concurrent use.
type Node interface {
	PoolTimeout() time.Duration

	// HasIdle reports whether a pipeline finds an idle connection, and HasRoom whether
	// it finds a slot for a new one. Connect waits until one has been dialed.
	HasIdle() bool
	HasRoom() bool
	Connect() error

	// Unreachable is the error of a command that is not sent because the server cannot
	// be reached; nil if it can be. NoneFree is that of one that has waited for a
	// connection, and Failed turns the error of a call into what its caller is to see.
	Unreachable() error
	NoneFree(waited time.Duration) error
	Failed(ctx context.Context, err error, after time.Duration) error

	Closed() bool
}
