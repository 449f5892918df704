package retry

import (
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"
)

// isHandshake recognises the commands with which go-redis sets up a connection;
// they pass the hooks, too, inside of the command that needs the connection.
// Trying them again is up to that command.
func isHandshake(cmd redis.Cmder) bool {
	a := cmd.Args()
	if len(a) == 0 {
		return false
	}
	s, ok := a[0].(string)
	if !ok {
		return false
	}
	switch len(s) {
	case 4:
		return strings.EqualFold(s, "auth")
	case 5:
		return strings.EqualFold(s, "hello")
	case 6:
		return strings.EqualFold(s, "client") || strings.EqualFold(s, "select")
	case 8:
		return strings.EqualFold(s, "readonly")
	case 9:
		return strings.EqualFold(s, "readwrite")
	}
	return false
}

// handshake marks the failure of a connection that was not ready yet. CLIENT is
// a command of callers as well; only what go-redis sends by itself is marked.
func handshake(cmd redis.Cmder, err error) error {
	if err == nil {
		return nil
	}
	var e early
	if errors.As(err, &e) {
		return err // of another connection's handshake, inside
	}
	err = reveal(err)
	if strings.HasPrefix(err.Error(), textNewClient) {
		return &fullError{err}
	}
	if f := classify(err); f.kind != lost && f.kind != unwritten && !isAnswer(err) {
		return err
	}
	if a := args(cmd.Args()); a.is(0, "client") && !a.is(1, "setinfo", "setname", "tracking", "maint_notifications") {
		return err
	}
	return asEarly(err)
}

func allHandshake(cmds []redis.Cmder) bool {
	for _, cmd := range cmds {
		if !isHandshake(cmd) {
			return false
		}
	}
	return true
}

// handshakePipeline is handshake for a pipeline that came back with err.
func handshakePipeline(cmds []redis.Cmder, err error) error {
	for _, cmd := range cmds {
		if e := cmd.Err(); e != nil {
			cmd.SetErr(handshake(cmd, e))
		}
	}
	return handshake(cmds[0], err)
}
