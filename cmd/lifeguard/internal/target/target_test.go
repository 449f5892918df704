package target_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/target"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

func TestMain(m *testing.M) { redistest.MainWithoutLeaks(m) }

// A server in protected mode says so and closes, while the client is sending. To another host's
// address it can be reached only where there is a network, so a listener does what the server does.
func TestARefusalBeforeTheFirstCommandIsNotLost(t *testing.T) {
	addr := redistest.Listen(t, func(c *net.TCPConn) {
		_, _ = c.Write([]byte("-DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the default user.\r\n"))
		_ = c.SetLinger(0) // a reset, which overtakes the text
		_ = c.Close()
	})
	var err error
	for range 20 {
		_, err = open(t, addr)
		require.Error(t, err)
		if e := new(target.FailedError); errors.As(err, &e) && e.What == addr {
			require.EqualError(t, err, addr+": protected mode: without a password the server takes connections from its own host only; "+
				"set a password (requirepass, or an ACL user), or connect from there")
			return
		}
	}
	t.Fatal(err)
}

func TestTheAddressIsSaidOnce(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := ln.Addr().String()
	require.NoError(t, ln.Close())
	_, err = open(t, addr)
	require.EqualError(t, err, "no answer from "+addr+": connection refused")
	_, err = target.Open(t.Context(), target.Config{Socket: t.TempDir() + "/none"})
	require.ErrorContains(t, err, "/none: no such file or directory")

	// As top gets it, when a server stops answering.
	at := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))
	read := &net.OpError{Op: "read", Net: "tcp", Source: at, Addr: at, Err: os.ErrDeadlineExceeded}
	err = target.Explain(fmt.Errorf("lifeguard/monitor/server: sample of %s: %w", addr, read), addr, false)
	require.EqualError(t, err, "no answer from "+addr+": i/o timeout")
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

func TestAServerThatIsNotRedisIsSaidToBeNone(t *testing.T) {
	addr := redistest.Listen(t, func(c *net.TCPConn) {
		_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
		t.Cleanup(func() { _ = c.Close() })
	})
	_, err := open(t, addr)
	require.ErrorContains(t, err, addr+" does not speak the protocol of Redis; is it the right port?")
}

func open(t *testing.T, addr string) (*target.Target, error) {
	host, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	n, err := strconv.Atoi(port)
	require.NoError(t, err)
	return target.Open(t.Context(), target.Config{Host: host, Port: n, Timeout: 20 * time.Second})
}
