package attempt

import "context"

type loneKey struct{}

var lone = context.WithValue(context.Background(), loneKey{}, true)

// Lone returns the ctx of a single command to a client of several nodes, which may arrive at its node as a
// pipeline: go-redis's AutoPipeliner sends a command that is alone in its batch so, with the background
// ctx. Others are returned as they are.
func Lone(ctx context.Context) context.Context {
	if ctx == context.Background() {
		return lone
	}
	return ctx
}

// IsLone reports whether ctx is made from one that Lone has marked.
func IsLone(ctx context.Context) bool { return ctx.Value(loneKey{}) != nil }
