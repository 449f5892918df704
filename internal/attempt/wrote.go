package attempt

import "context"

type wroteKey struct{}

// WithWrote returns the ctx of a pipeline whose connection is known. wrote reports whether anything of the
// pipeline was written to it.
func WithWrote(ctx context.Context, wrote func() bool) context.Context {
	return context.WithValue(ctx, wroteKey{}, wrote)
}

// WroteNothing reports whether ctx is that of a pipeline of which nothing was written; false if that is
// not known.
func WroteNothing(ctx context.Context) bool {
	wrote, known := ctx.Value(wroteKey{}).(func() bool)
	return known && !wrote()
}
