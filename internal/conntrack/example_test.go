package conntrack_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

// exampleAddr is where Example finds a server; TestExample sets it.
var exampleAddr string

func TestExample(t *testing.T) {
	exampleAddr = redistest.Start(t).Addr()
	defer func() { exampleAddr = "" }()
	Example() // it panics if a step fails
}

// What package managed does, by hand: tracked connections on a plain client, and
// a visit that ends an idle one.
func Example() {
	if exampleAddr == "" {
		return // it needs a server, see TestExample
	}
	tracker := conntrack.NewTracker(conntrack.Config{})
	opt := &redis.Options{Addr: exampleAddr, MaxRetries: -1}
	node := tracker.NewNode(opt) // puts the tracked connections into opt
	rdb := redis.NewClient(opt)
	hook := &conntrack.Hook{Node: node}
	hook.Install(rdb, nil, nil) // the first hook
	node.Bind(rdb)
	defer rdb.Close()
	defer node.Close()

	if err := rdb.Set(context.Background(), "k", "v", time.Minute).Err(); err != nil {
		panic(err)
	}
	for _, c := range tracker.Conns() {
		fmt.Println(c.Pool, c.State, c.LastCommand)
	}
	tracker.Range(func(c *conntrack.Conn) bool { c.EvictIdle(hooks.ReasonAge); return true })
	if _, removed, _ := node.Visit(hooks.PoolMain, 0); !removed {
		panic("the connection is still there")
	}
	if n := tracker.CloseReasons()[hooks.ReasonAge]; n != 1 || tracker.Len() != 0 {
		panic(fmt.Sprint("ended: ", n))
	}
}

// Hooks of one's own see a lost reply as an error that go-redis cannot recognise,
// so that it repeats nothing by itself. attempt.Reveal gives the real one.
func ExampleHide() {
	err := conntrack.Hide(io.EOF) // as a connection does while a reply is outstanding
	fmt.Println(errors.Is(err, io.EOF), errors.Is(attempt.Reveal(err), io.EOF))
	// Output: false true
}
