package retry

import (
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/command"
)

// Safety says what sending a command a second time does, if the server carried
// out the first one. docs/COMMANDS.md lists every command with its class.
type Safety int

const (
	// ReadOnly commands change nothing, however often they run.
	ReadOnly Safety = iota
	// IdempotentWrite commands leave the same state behind when they run twice in a
	// row, and reply the same (SET, MSET, SETRANGE). HSET, ZADD and GEOADD without
	// flags are among them: their count of new fields may be 0 the second time, but it
	// is rarely read. Another client's write in between is overwritten: A's SET, B's
	// SET, A's SET again; see [Policy.NoRepeatWrites].
	IdempotentWrite
	// IdempotentState commands leave the same state behind when they run twice in a
	// row, but may reply less the second time: a ZREM that said 1 says 0. A repetition
	// is the answer only if its reply is one that a first execution alone can give
	// (ZREM of one member: 1). Otherwise the error is an [*UnknownOutcomeError] that is
	// Applied. See [Policy.IgnoreCounts].
	IdempotentState
	// Unsafe commands do something again when they run again (INCR, LPUSH), give
	// away something that is then lost (BLPOP, GETDEL), decide something by their
	// reply (SET NX), are bound to their connection, or are not known.
	Unsafe
)

// String returns "read-only", "idempotent", "idempotent state" or "unsafe".
func (s Safety) String() string {
	switch s {
	case ReadOnly:
		return "read-only"
	case IdempotentWrite:
		return "idempotent"
	case IdempotentState:
		return "idempotent state"
	case Unsafe:
		return "unsafe"
	}
	return fmt.Sprintf("Safety(%d)", int(s))
}

// Classifier says how safe a command is to repeat. It is called only after a
// failure, possibly by several goroutines at a time, and must not keep cmd.
// [SafetyOf] is the default, and can be called from one's own.
type Classifier func(cmd redis.Cmder) Safety

// SafetyOf classifies a command by what Redis 8 and Valkey 8 say about it, by a
// list of writes whose repetition changes nothing, and by its arguments: SET k v
// is IdempotentWrite, SET k v NX is Unsafe. A command that is not known is Unsafe.
// It looks at nothing but the arguments and does not change cmd.
func SafetyOf(cmd redis.Cmder) Safety { return Safety(command.ClassOf(cmd).Safety) }

// The two have the same values.
var _ = [1]struct{}{}[int(command.ReadOnly)-int(ReadOnly)+int(command.IdempotentWrite)-int(IdempotentWrite)+
	int(command.IdempotentState)-int(IdempotentState)+int(command.Unsafe)-int(Unsafe)]
