package retry

import (
	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/command"
)

// Known reports whether a command has a class of its own.
func Known(name string) bool { return command.Known(name) }

// Texts of go-redis that the package recognises.
const (
	TextBadConn    = attempt.TextBadConn
	TextNoNodes    = textNoNodes
	TextShardsDown = textShardsDown
	TextCache      = textCache
	TextParse      = textParse
)

// Repeatable reports whether all of cmds may be sent again together.
func Repeatable(cmds []redis.Cmder, at []int) bool { return repeatable(cmds, at, SafetyOf) }

// Form is a command, or a way to call one.
type Form struct {
	Text   string
	Safety Safety
}

// Forms are all known commands.
func Forms() []Form {
	var out []Form
	for _, f := range command.Forms() {
		out = append(out, Form{f.Text, Safety(f.Safety)})
	}
	return out
}

// Page is docs/COMMANDS.md.
func Page() string { return page() }

// Proves reports whether the reply that cmd has proves that it is a first one.
func Proves(cmd redis.Cmder) bool { return command.ClassOf(cmd).Proof.Given(cmd, cmd.Err()) }

// Names are those of all known commands.
func Names() []string { return command.Names() }
