// Package retry sends again what is safe to send again, and nothing else. It is
// a hook for any go-redis client:
//
//	rdb := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
//	hook, err := retry.Attach(rdb, retry.Default())
//
// # The rule
//
// A command that fails has one of three outcomes. Not sent: it is tried again.
// Answered: that is the answer, unless it is a [Refusal]: the server has not executed
// the command. Unknown: it was sent and no reply came. Then it is sent again if it
// is a read, or a write whose repetition changes nothing; otherwise the caller
// gets [ErrUnknownOutcome], with the cause inside. Where the second reply may tell
// less than the first one (ZREM: 0), it is not given out: see [IdempotentState] and
// [Applied]. [SafetyOf] knows every command of Redis 8 and Valkey 8, docs/COMMANDS.md
// lists them; [Idempotent], [Never] and [Bound] decide for one call.
//
// # What go-redis does by itself
//
// go-redis repeats every command on EOF and on timeouts, INCR as well. Its
// retries have to be off: MaxRetries: -1 in Options and RingOptions. [Attach]
// refuses a client on which they are on; AddHook with [NewHook] cannot know. A
// ClusterClient repeats commands whatever MaxRetries is (it goes round for
// MaxRedirects). It stops when the connection gives it an error that it cannot
// recognise (below). Without such connections the guarantee does not hold on a
// ClusterClient for single commands; for pipelines of several it does.
//
// # What errors can say
//
// Connections, dialers and hooks below this one can tell it more than go-redis
// does, by methods of their errors, which are looked for with errors.As:
//
//   - Early() error: an error from before the command was written, of a handshake or
//     of the caller's own code; callers see the error that it returns.
//   - Unsent() bool: whether nothing of the command was written (true), or some of
//     it was (false). It makes an error a failure of the connection.
//   - Real() error: the error behind one that go-redis is not to recognise. A
//     connection returns such an error from Read while a reply is outstanding; it
//     must have neither Timeout nor Unwrap. Callers see the real one.
//   - Wait(context.Context) error: the node is unreachable and nothing was sent. Wait
//     returns nil when it may be tried again; it is called instead of a backoff.
//
// # Pipelines
//
// A command that was answered is never sent again. The others are, if each of
// them may be, and if repeating them together gives the same result: after GET k,
// DEL k a second GET would find nothing, so that pair is not repeated. MULTI/EXEC
// is sent again as a whole: if nothing of it was sent, or if all of it may be
// repeated. What may not be repeated ends with ErrUnknownOutcome.
//
// # Waiting
//
// While a node is unreachable, nothing is sent, so trying costs no attempt and nothing
// of the budget. It ends with the deadline of ctx, with the node's breaker, or
// for a ctx without a deadline after [UnreachableLimit]. A wait that does not fit into
// ctx is not begun: the caller gets the last error at once. The wait for a
// connection of the pool is go-redis's own, and is not repeated.
package retry
