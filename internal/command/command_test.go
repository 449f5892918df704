package command_test

import (
	"context"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/command"
)

func cmd(line string) redis.Cmder {
	var args []any
	for _, w := range strings.Fields(line) {
		args = append(args, w)
	}
	return redis.NewCmd(context.Background(), args...)
}

// What go-redis sends by itself, what may wait and so on, in any case and any form.
func TestTheColumnsOfTheTableHoldInAnyCase(t *testing.T) {
	for _, c := range []struct {
		is   func(redis.Cmder) bool
		yes  string
		no   string
		name string
	}{
		{command.IsHandshake, "HELLO 3,auth x,client list,select 1,READONLY,readwrite", "get k,reset,ping,asking", "handshake"},
		{command.IsSetup, "client setinfo x,CLIENT MAINT_NOTIFICATIONS on,hello,auth x", "client list,client,client nonsense,get k", "setup"},
		{command.IsBound, "multi,client list,client nonsense,WATCH k,wait 1 0", "get k,cluster info,eval x 0", "bound"},
		{command.RunsScript, "eval x 0,EVALSHA_RO x 0,fcall f 0", "script load x,function load x,get k", "script"},
		{command.MayBlock, "blpop k 0,WAIT 1 0,xread BLOCK 0 streams s $,XREADGROUP group g c block 5 streams s >", "xread streams s 0,lpop k,get block,blpo", "blocking"},
		{command.Writes, "set k v,getex k,eval x 0,xreadgroup group g c streams s >", "get k,eval_ro x 0,ping,nonsense", "writes"},
		{command.FansOut, "del a b,FLUSHALL,config set a b,script load x", "get k,config get a,client list", "fan-out"},
	} {
		for line := range strings.SplitSeq(c.yes, ",") {
			require.True(t, c.is(cmd(line)), "%s: %s", c.name, line)
			require.True(t, c.is(cmd(strings.ToUpper(line))), "%s: %s", c.name, strings.ToUpper(line))
		}
		for line := range strings.SplitSeq(c.no, ",") {
			require.False(t, c.is(cmd(line)), "%s: %s", c.name, line)
		}
	}
	require.False(t, command.MayBlock(redis.NewCmd(context.Background())))
	require.True(t, command.MayBlock(redis.NewCmd(context.Background(), []byte("BLPOP"), "k", 0)))
}

func TestANameThatIsNotKnownIsNotShown(t *testing.T) {
	for line, want := range map[string]string{"GET k": "get", "Config SET a b": "config|set", "config password": "config",
		"client password": "client", "client list": "client|list", "password": "unknown command", "": "unknown command", "ft.cursor password": "ft.cursor"} {
		require.Equal(t, want, command.DisplayName(cmd(line)), line)
	}
}

func TestTheStateOfASessionFollowsFromItsCommands(t *testing.T) {
	after := func(lines string) (s command.SessionState) {
		for line := range strings.SplitSeq(lines, ",") {
			name, sub, _ := strings.Cut(line, " ")
			s = s.After(name, sub)
		}
		return s
	}
	for lines, want := range map[string]command.SessionState{
		"get k": 0, "MULTI": command.InMulti, "multi,exec": 0, "watch k,multi,discard": 0, "watch k,unwatch": 0,
		"watch k,multi,unwatch": command.Watching | command.InMulti, "client list": 0, "CLIENT SETNAME": command.Changed,
		"client maint_notifications": command.Changed, "script load": 0, "script DEBUG": command.Changed, "select 1,exec": command.Changed,
		"client caching": command.ForNext, "subscribe c": command.PubSub, "unsubscribe c": command.Changed,
	} {
		require.Equal(t, want, after(lines), lines)
	}
}

func TestALookupAllocatesNothing(t *testing.T) {
	for _, line := range []string{"get k", "GET k", "hello 3", "blpop k 0", "nonsense"} {
		c := cmd(line)
		require.Zero(t, testing.AllocsPerRun(100, func() {
			command.IsHandshake(c)
			command.MayBlock(c)
			command.RunsScript(c)
			command.IsBound(c)
		}), line)
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, line := range []string{"get k", "hget k f", "expire k 1", "GET k"} {
		c := cmd(line)
		for name, is := range map[string]func(redis.Cmder) bool{"handshake": command.IsHandshake, "blocks": command.MayBlock, "writes": command.Writes} {
			b.Run(name+" "+line, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					is(c)
				}
			})
		}
	}
}
