package errtext

import "fmt"

// noted is an error with a prefix. Unlike one of fmt.Errorf it is a net.Error by type assertion,
// too, as the errors of a ctx and of connections are.
type noted struct {
	note string
	err  error
}

// Note returns err with a prefix.
func Note(err error, format string, args ...any) error {
	return &noted{fmt.Sprintf(format, args...), err}
}

func (e *noted) Error() string   { return e.note + ": " + e.err.Error() }
func (e *noted) Unwrap() error   { return e.err }
func (e *noted) Timeout() bool   { return IsTimeout(e.err) }
func (e *noted) Temporary() bool { return e.Timeout() }
