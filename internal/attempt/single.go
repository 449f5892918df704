package attempt

import "context"

type singleKey struct{}

var single = context.WithValue(context.Background(), singleKey{}, true)

// Single returns the ctx of a single command to a client of several nodes, which may arrive at its node as a
// pipeline: go-redis's AutoPipeliner sends a command that is alone in its batch so, with the background
// ctx. Others are returned as they are.
func Single(ctx context.Context) context.Context {
	if ctx == context.Background() {
		return single
	}
	return ctx
}

// IsSingle reports whether ctx is made from one that Single has marked.
func IsSingle(ctx context.Context) bool { return ctx.Value(singleKey{}) != nil }
