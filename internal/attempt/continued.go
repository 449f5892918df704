package attempt

import "context"

// After continues with a command whose first attempt was part of a pipeline with First and failed
// with err. Process the command by itself, on the same client, with the returned ctx: it is sent
// again if that is allowed, as if its hook had made the first attempt. Use the returned ctx for
// nothing else, and do not wrap it.
func After(ctx context.Context, err error) context.Context { return &Continued{ctx, err} }

// Continued is the ctx that After returns. It is recognised by its type, which is cheaper than
// looking up a context value.
type Continued struct {
	context.Context
	Failed error // of the first attempt
}
