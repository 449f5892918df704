package redistest

import (
	"net"
	"sync"
	"testing"
)

// Listen starts something that is no server of ours and returns its address: serve gets its
// connections one after another, and has to close them. It ends with the test.
func Listen(t testing.TB, serve func(*net.TCPConn)) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			serve(c.(*net.TCPConn))
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); <-done })
	return ln.Addr().String()
}

// Mute starts something that accepts connections and never answers, and returns its address. It
// closes them when the test ends.
func Mute(t testing.TB) (addr string) {
	t.Helper()
	ended := make(chan struct{})
	var held sync.WaitGroup
	t.Cleanup(held.Wait) // the last to run
	addr = Listen(t, func(c *net.TCPConn) {
		held.Go(func() {
			defer c.Close()
			<-ended
		})
	})
	t.Cleanup(func() { close(ended) })
	return addr
}
