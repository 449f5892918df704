package serverside

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

// Sentinels that tell, with errors.Is, what kind of error it is.
var (
	// ErrDenied: the server does not allow this user to do it, or does not offer the command (as
	// with some commands of managed services).
	ErrDenied = errors.New("denied")
	// ErrUnreachable: the server sent no reply.
	ErrUnreachable = errors.New("unreachable")
	// ErrMalformed: a part of the server's reply could not be parsed. It is the sentinel of
	// *MalformedError.
	ErrMalformed = errors.New("malformed")
	// ErrLockLost: another reaper has the lock, or the lock could not be extended. The sweep ended
	// early.
	ErrLockLost = errors.New("the lock was lost")
)

// Error is a failure on one node. It matches the sentinel that applies, if any, and wraps the
// cause. It is immutable.
type Error struct {
	Op   string // the operation: "list", "kill", "ask for its own id", "lock"
	Node string // address of the node, "" if it has none
	Kind error  // ErrDenied, ErrUnreachable, ErrLockLost or nil
	Err  error  // the cause
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("lifeguard/serverside: " + e.Op)
	if e.Node != "" {
		b.WriteString(" on " + e.Node)
	}
	if e.Kind != nil {
		b.WriteString(": " + e.Kind.Error())
	}
	if e.Err != nil {
		// Servers end some of their errors with a newline.
		b.WriteString(": " + strings.TrimSpace(e.Err.Error()))
	}
	if need := needs[e.Op]; need != "" && e.Kind == ErrDenied {
		b.WriteString(" (needs " + need + ")")
	}
	return b.String()
}

var needs = map[string]string{
	"list": "+client|list",
	"kill": "+client|kill",
	"lock": "SET and GET on its key, EVAL or WATCH to give it back; or WithoutLock",
}

// Unwrap returns the sentinel and the cause.
func (e *Error) Unwrap() []error {
	var out []error
	for _, err := range []error{e.Kind, e.Err} {
		if err != nil {
			out = append(out, err)
		}
	}
	return out
}

// fail makes an Error from the error of a command.
func fail(ctx context.Context, op, node string, err error) error {
	e := &Error{Op: op, Node: node, Err: err}
	var answer redis.Error
	switch {
	case errors.As(err, &answer):
		if denied(err) {
			e.Kind = ErrDenied
		}
	case ctx.Err() != nil:
		// The caller caused these; they say nothing about the server.
	case errors.Is(err, redis.ErrClosed):
	default:
		e.Kind = ErrUnreachable
	}
	return e
}

// denied reports whether the server's reply means that this user is not allowed to do this, or that
// this service has no such command.
func denied(err error) bool {
	s := err.Error()
	return redis.IsPermissionError(err) || redis.IsAuthError(err) ||
		strings.HasPrefix(s, "ERR unknown command") || strings.HasPrefix(s, "ERR unknown subcommand") ||
		strings.HasPrefix(s, "ERR Unknown subcommand")
}

// BadLine is a line that could not be parsed.
type BadLine struct {
	Node string
	Line string // at most 200 bytes of it
	Why  string
}

// MalformedError lists the lines of CLIENT LIST that could not be parsed. The results returned with
// it are correct but incomplete. It is immutable.
type MalformedError struct {
	Skipped int       // how many lines were left out
	Lines   []BadLine // the first 8 of them
}

func (e *MalformedError) add(node, line, why string) {
	e.Skipped++
	if len(e.Lines) < 8 {
		if len(line) > 200 {
			line = line[:200]
		}
		e.Lines = append(e.Lines, BadLine{node, line, why})
	}
}

func (e *MalformedError) merge(o *MalformedError, node string) {
	e.Skipped += o.Skipped
	for _, l := range o.Lines {
		if len(e.Lines) < 8 {
			l.Node = node
			e.Lines = append(e.Lines, l)
		}
	}
}

// with joins err and the malformed lines, if there are any.
func with(err error, torn *MalformedError) error {
	switch {
	case torn.Skipped == 0:
		return err
	case err == nil:
		return torn
	}
	return errors.Join(err, torn)
}

func (e *MalformedError) Error() string {
	s := fmt.Sprintf("lifeguard/serverside: CLIENT LIST: %s left out", errtext.Count(e.Skipped, "malformed line"))
	for i, l := range e.Lines {
		if i == 3 {
			return s + "; ..."
		}
		s += fmt.Sprintf("; %s: %.80q", l.Why, l.Line)
	}
	return s
}

// Unwrap returns ErrMalformed.
func (e *MalformedError) Unwrap() error { return ErrMalformed }

// bad makes the error for an invalid field of a Filter or a Policy, or for an invalid option.
func bad(field string, value any, why string) error {
	if s, ok := value.(string); ok {
		return fmt.Errorf("lifeguard/serverside: %s: %q: %s", field, s, why)
	}
	return fmt.Errorf("lifeguard/serverside: %s: %v: %s", field, value, why)
}
