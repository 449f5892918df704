package batch

import (
	"context"
	"time"
)

// Settings say how large batches are, and when they are sent.
type Settings struct {
	Size        int           // commands at most
	Delay       time.Duration // how long a batch that is not full waits for more commands
	Concurrency int           // batches in progress at a time; 0: as many as the network makes worthwhile
	Threshold   int64         // calls in flight that start batching; 0: derived from PoolSize and the duration of batches
}

// Node is a server that batches are sent to, with its connection pools. It is safe for concurrent
// use.
type Node interface {
	PoolTimeout() time.Duration

	// HasIdle reports whether a pipeline would find an idle connection, and HasRoom whether it
	// would find a slot for a new one. Connect waits until one has been dialed.
	HasIdle() bool
	HasRoom() bool
	Connect() error

	// Unreachable returns the error of a command that is not sent because the server is
	// unreachable; nil if it is not. NoneFree counts n commands that have waited for a
	// connection in vain and returns their error, and Failed turns the error of a call into the one for its
	// caller.
	Unreachable() error
	NoneFree(waited time.Duration, n int) error
	Failed(ctx context.Context, err error, after time.Duration) error

	Closed() bool
}
