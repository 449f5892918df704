package hooks_test

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
)

// Errors of the network say whether the command had left the process.
func ExampleConnError() {
	// What a command on a managed client gets when its connection was lost:
	var err error = &hooks.ConnError{Op: "read", Node: "localhost:6379", ID: 7, Age: 90 * time.Second, Wrote: true, Err: io.EOF}

	var conn *hooks.ConnError
	if errors.As(err, &conn) {
		fmt.Println(conn.Op, "failed, nothing was sent:", conn.Unsent())
	}
	fmt.Println(errors.Is(err, io.EOF))
	fmt.Println(err)
	// Output:
	// read failed, nothing was sent: false
	// true
	// lifeguard: read localhost:6379 (connection 7, age 1m30s, command sent): EOF
}

func ExampleEvent() {
	e := hooks.Event{Kind: hooks.Closed, Node: "localhost:6379", ConnID: 7, Reason: hooks.ReasonIdle, Age: time.Hour}
	fmt.Println(e.Kind, e.Reason, "after", e.Age)
	// Output: closed idle after 1h0m0s
}
