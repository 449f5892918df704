package command

import (
	"strings"

	"github.com/redis/go-redis/v9"
)

// traits are the columns of the table that servers do not report.
var traits = []struct {
	names string
	is    flags
}{
	{`asking auth client discard exec hello monitor multi psubscribe punsubscribe quit readonly readwrite reset select
		ssubscribe subscribe sunsubscribe unsubscribe unwatch wait waitaof watch`, bound},
	{"auth client client|maint_notifications client|setinfo client|setname client|tracking hello readonly readwrite select", handshake},
	{"eval evalsha eval_ro evalsha_ro fcall fcall_ro", script},
	{"blmove blmpop blpop brpop brpoplpush bzmpop bzpopmax bzpopmin wait waitaof", blocks},
	{"xread xreadgroup", blocksAsked},
	{"dbsize eval_ro evalsha_ro fcall_ro flushall flushdb function|restore keys randomkey scan sort sort_ro swapdb", anyKey},
	{"ft.cursor sentinel", container}, // others have a subcommand in the table
}

// first returns the command's name as given.
func first(cmd redis.Cmder) string {
	if a := cmd.Args(); len(a) > 0 {
		if s, ok := a[0].(string); ok {
			return s
		}
	}
	return cmd.Name()
}

// IsHandshake recognises the commands with which go-redis sets up a connection. They pass through
// the hooks, too, during the command that needs the connection. Callers use CLIENT as well; see
// IsSetup.
func IsHandshake(cmd redis.Cmder) bool { return has(first(cmd), handshake) }

// IsSetup is IsHandshake without those forms of CLIENT that go-redis does not send by itself.
func IsSetup(cmd redis.Cmder) bool {
	if !IsHandshake(cmd) {
		return false
	}
	r, name, _ := find(cmd)
	return name != "client" && r != nil && r.is&handshake != 0
}

// IsBound reports whether a command is bound to one connection: its effect, or its reply, differs
// on another one.
func IsBound(cmd redis.Cmder) bool { return has(first(cmd), bound) }

// RunsScript reports whether the reply can be made up by the caller's own code.
func RunsScript(cmd redis.Cmder) bool { return has(first(cmd), script) }

// Writes reports whether a server that has executed the command accepts writes, or most probably
// does: most scripts write.
func Writes(cmd redis.Cmder) bool { return WritesByName(first(cmd)) }

// WritesByName is Writes for the name of a command.
func WritesByName(name string) bool {
	if name == "" || all.flags[slot(name)]&(write|script) == 0 {
		return false
	}
	r := lookup(name)
	return r != nil && r.is&(write|script) != 0 && r.is&read_ == 0
}

// FansOut reports whether a cluster client sends the command to several nodes.
func FansOut(cmd redis.Cmder) bool {
	r, _, _ := find(cmd)
	return r != nil && r.is&fan != 0
}

// MayBlock reports whether a command may block in the server.
func MayBlock(cmd redis.Cmder) bool {
	name := first(cmd)
	if !has(name, blocks|blocksAsked) {
		return false
	}
	if has(name, blocks) {
		return true
	}
	for _, a := range cmd.Args()[1:] {
		if s, ok := a.(string); ok && strings.EqualFold(s, "block") {
			return true
		}
	}
	return false
}

// NameOf returns the command's name in lower case, including the subcommand if the server knows
// one: "get", "config|set". It is "" for a command without one.
func NameOf(cmd redis.Cmder) string {
	_, name, _ := find(cmd)
	return name
}

// DisplayName is NameOf for logs and errors: an unknown name may be a misplaced secret.
func DisplayName(cmd redis.Cmder) string {
	r, name, _ := find(cmd)
	if r != nil && (r.is&(asked|bound) != 0 || r.decision != nil) {
		return name
	}
	// The text after the name of a container may be anything.
	if name, _, sub := strings.Cut(name, "|"); sub {
		return name
	}
	return "unknown command"
}
