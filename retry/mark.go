package retry

import (
	"context"

	"github.com/lifeguard-redis/lifeguard/internal/attempt"
)

// Idempotent declares that repeating what is sent with the returned context is harmless, whatever
// its class. Commands that are bound to their connection (MULTI, WATCH, SUBSCRIBE, CLIENT ...) are
// still not repeated. [Never] takes precedence.
func Idempotent(ctx context.Context) context.Context { return attempt.With(ctx, attempt.Idempotent) }

// Never declares that what is sent with the returned context must be sent only once. It is not sent
// again, whatever its class and its error. What was not sent is still tried again.
func Never(ctx context.Context) context.Context { return attempt.With(ctx, attempt.Never) }

// Bound declares that the commands sent with the returned context belong to one connection, like
// those between WATCH and EXEC. Nothing is tried again, not even what was not sent: the next
// attempt could use another connection. A plain redis.Conn and redis.Tx need no mark, because
// go-redis does not use them again after a failure.
func Bound(ctx context.Context) context.Context { return attempt.With(ctx, attempt.Bound) }
