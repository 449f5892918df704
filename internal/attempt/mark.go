package attempt

import "context"

// Mark is what a ctx says about the commands sent with it. Marks add up.
type Mark uint8

const (
	// Idempotent, Never and Bound are for users: see the functions of package retry.
	Idempotent Mark = 1 << iota
	Never
	Bound
	// First is for pipelines of unrelated commands, such as those of several callers. A pipeline
	// with it is one attempt: nothing is sent again, and each command keeps the bare error of that
	// attempt. After continues with a command that failed. It is of no use on transactions.
	First
	// Harmless is for a command that changes nothing on the server beyond its connection, such as
	// WATCH: it is repeated like a read, and its outcome is never unknown.
	Harmless
	// Script is for a script on its way through a cluster's own retries.
	Script
	// Alone says that no outer hook sees what is sent to a node of a cluster or ring, for example by
	// a redis.Conn of the node. The node's hook then returns the error meant for the caller, instead
	// of one that only the outer hook understands. Not for WATCH, because a cluster repeats it.
	Alone
)

type markKey struct{}

// RefusedKey is the key of a ctx's value that says that an earlier attempt of the call was refused a
// dial.
type RefusedKey struct{}

// With returns ctx with the mark.
func With(ctx context.Context, m Mark) context.Context {
	return context.WithValue(ctx, markKey{}, MarksOf(ctx)|m)
}

// MarksOf returns all marks of ctx.
func MarksOf(ctx context.Context) Mark {
	m, _ := ctx.Value(markKey{}).(Mark)
	return m
}

// Marked reports whether ctx carries Idempotent, Never or Bound.
func Marked(ctx context.Context) bool { return MarksOf(ctx)&^(First|Alone) != 0 }
