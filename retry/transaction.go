package retry

import (
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/command"
)

// chooseTx: a transaction is sent again as a whole, or not at all. A Ring sends one transaction per
// shard, so those that were answered are left out.
func (c *pipeCall) chooseTx(lostOnes, unsentOnes, refused []int) []int {
	if len(refused) > 0 {
		return merge(c.aborted(), unsentOnes)
	}
	all := merge(lostOnes, unsentOnes)
	for _, i := range all {
		if c.fails[i].kind == final {
			return nil
		}
	}
	if len(lostOnes) == 0 {
		return all
	}
	for i, cmd := range c.body {
		if !c.failed(i) && cmd.Err() != nil {
			return nil // refused before EXEC: alone, the others would not have been executed
		}
	}
	if !c.mayRepeatAll(all) {
		return nil
	}
	return all
}

// aborted returns the commands of a transaction that the server refused for now, so that no part of
// it was executed. The server says so either for the commands that it did not queue, with EXECABORT
// for the others; or at EXEC, and then for all of them. What EXEC has executed cannot be refused
// any more; but a script in it may return any error of its own, so its reply alone counts as a
// refusal only if it is the server's and nothing else was executed.
func (c *pipeCall) aborted() []int {
	var at []int
	sure, scripts := isAbort(c.cmds[len(c.cmds)-1].Err()), true
	for i, cmd := range c.body {
		switch err := cmd.Err(); {
		case err == nil || err == redis.Nil || c.failed(i) && c.fails[i].outcome != Answered:
			continue
		case isAbort(err) && !command.RunsScript(cmd):
			sure = true
		case isAbort(err) && err.Error() == textAborted: // or a script that returns the same text
		case !c.failed(i):
			return nil // this reply may be the reason
		case command.RunsScript(cmd):
			scripts = scripts && c.h.mayAskAgain(cmd, c.fails[i], c.marks)
		case c.h.mayAskAgain(cmd, c.fails[i], c.marks):
			sure = true
		default:
			return nil
		}
		if cmd.NoRetry() || c.marks&attempt.Never != 0 {
			return nil
		}
		at = append(at, i)
	}
	if !sure && (!scripts || len(at) < len(c.body)) {
		return nil
	}
	if c.own == nil && !c.h.fanout.Load() || c.own != nil && !c.own() {
		return nil
	}
	return at
}

func isAbort(err error) bool {
	var e early
	return err != nil && isAnswer(err) && strings.HasPrefix(err.Error(), textExecAbort) && !errors.As(err, &e)
}

func isTx(cmds []redis.Cmder) bool {
	return len(cmds) >= 2 && command.Args(cmds[0].Args()).Is(0, "multi") && command.Args(cmds[len(cmds)-1].Args()).Is(0, "exec")
}
