package retry

import "github.com/redis/go-redis/v9"

// Known reports whether a command has a class of its own.
func Known(name string) bool { return known(name) }

// Texts of go-redis that the package recognises.
const (
	TextBadConn    = textBadConn
	TextNoNodes    = textNoNodes
	TextShardsDown = textShardsDown
	TextMarshal    = textMarshal
	TextParse      = textParse
)

// Repeatable reports whether all of cmds may be sent again together.
func Repeatable(cmds []redis.Cmder, at []int) bool { return repeatable(cmds, at, SafetyOf) }
