package retry

import (
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/command"
)

// handshake marks the failure of a connection whose handshake was not complete. Callers use CLIENT
// too; only the forms that go-redis sends by itself are marked.
func handshake(cmd redis.Cmder, err error) error {
	if err == nil {
		return nil
	}
	var e early
	if errors.As(err, &e) {
		return err // of a nested handshake, of another connection
	}
	err = attempt.Reveal(err)
	if strings.HasPrefix(err.Error(), textNewClient) {
		return &refusedError{err}
	}
	if f := classify(err); f.kind != lost && f.kind != unwritten && !isAnswer(err) {
		return err
	}
	if !command.IsSetup(cmd) {
		return err
	}
	return asEarly(err)
}

func allHandshake(cmds []redis.Cmder) bool {
	for _, cmd := range cmds {
		if !command.IsHandshake(cmd) {
			return false
		}
	}
	return true
}

// handshakePipeline does the same for a pipeline that returned err.
func handshakePipeline(cmds []redis.Cmder, err error) error {
	for _, cmd := range cmds {
		if e := cmd.Err(); e != nil {
			cmd.SetErr(handshake(cmd, e))
		}
	}
	return handshake(cmds[0], err)
}
