package managed_test

import (
	"bufio"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// fieldsets answers as a server with HIMPORT does, which none of the tested ones is.
type fieldsets struct {
	mu       sync.Mutex
	has      map[net.Conn]bool // a fieldset is prepared on it
	hangUp   bool              // at the next PREPARE
	executed []string
}

func newFieldsets(t *testing.T) (*fieldsets, *redis.Options) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	s := &fieldsets{has: map[net.Conn]bool{}}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go s.serve(c)
		}
	}()
	return s, &redis.Options{Addr: ln.Addr().String(), Protocol: 2, DisableIdentity: true, MaxRetries: -1, PoolSize: 1, PipelinePoolSize: -1}
}

func (s *fieldsets) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		args, err := readCommand(r)
		if err != nil {
			return
		}
		reply := s.reply(c, strings.ToLower(strings.Join(args, " ")))
		if reply == "" {
			return
		}
		if _, err := c.Write([]byte(reply + "\r\n")); err != nil {
			return
		}
	}
}

func (s *fieldsets) reply(c net.Conn, command string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case strings.HasPrefix(command, "hello"):
		return "-ERR unknown command 'HELLO'"
	case strings.HasPrefix(command, "himport prepare"):
		if s.hangUp {
			s.hangUp = false
			return ""
		}
		s.has[c] = true
	case strings.HasPrefix(command, "himport set") && !s.has[c]:
		return "-ERR no such fieldset"
	case command == "reset":
		delete(s.has, c)
		return "+RESET"
	case strings.HasPrefix(command, "ping"):
		return "+PONG"
	}
	s.executed = append(s.executed, command)
	return "+OK"
}

func (s *fieldsets) forget() { s.mu.Lock(); defer s.mu.Unlock(); clear(s.has) }

func (s *fieldsets) hangUpAtPrepare() { s.mu.Lock(); defer s.mu.Unlock(); s.hangUp = true }

func (s *fieldsets) did(command string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.executed {
		if e == command {
			return true
		}
	}
	return false
}

func readCommand(r *bufio.Reader) (args []string, err error) {
	number := func() (int, error) {
		line, err := r.ReadString('\n')
		if err != nil || len(line) < 2 {
			return 0, err
		}
		return strconv.Atoi(strings.TrimSpace(line[1:]))
	}
	n, err := number()
	for range n {
		if _, err = number(); err != nil {
			return nil, err
		}
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, err
		}
		args = append(args, strings.TrimSpace(line))
	}
	return args, err
}

// go-redis sends an HIMPORT SET whose fieldset is gone once more, after another
// HIMPORT PREPARE. What else is in the pipeline was answered before.
func TestWhatWasAnsweredBeforeAFieldsetIsPreparedAgainKeepsItsResult(t *testing.T) {
	for name, connect := range map[string]func(*redis.Options) redis.UniversalClient{
		"bare":    func(o *redis.Options) redis.UniversalClient { return redis.NewClient(o) },
		"managed": func(o *redis.Options) redis.UniversalClient { return client(t, o) },
	} {
		t.Run(name, func(t *testing.T) {
			s, opt := newFieldsets(t)
			c := connect(opt)
			defer c.Close()
			require.NoError(t, c.HImportPrepare(t.Context(), "fs", "a").Err())
			s.forget()
			s.hangUpAtPrepare()
			p := c.Pipeline()
			plain, set := p.Set(t.Context(), "plain", "x", 0), p.HImportSet(t.Context(), "k", "fs", "1")
			_, err := p.Exec(t.Context())
			require.NoError(t, plain.Err())
			require.Equal(t, "OK", plain.Val())
			require.EqualError(t, set.Err(), "ERR no such fieldset")
			require.EqualError(t, err, "ERR no such fieldset")
			redistest.Eventually(t, "another connection, as soon as the end of the first has arrived", soon, func() bool {
				return c.HImportSet(t.Context(), "k", "fs", "2").Err() == nil
			})
		})
	}
}

// A connection that got a RESET is not used again. On a new one the PREPARE comes
// first, so when that fails nothing of the pipeline was answered.
func TestAPipelineWhosePrepareIsNotAnsweredWasNotAnsweredEither(t *testing.T) {
	s, opt := newFieldsets(t)
	c := client(t, opt)
	require.NoError(t, c.HImportPrepare(t.Context(), "fs", "a").Err())
	require.NoError(t, c.Do(t.Context(), "reset").Err())
	s.hangUpAtPrepare()
	p := c.Pipeline()
	plain, set := p.Set(t.Context(), "plain", "x", 0), p.HImportSet(t.Context(), "k", "fs", "1")
	_, err := p.Exec(t.Context())
	for _, err := range []error{plain.Err(), set.Err(), err} {
		require.ErrorIs(t, err, retry.ErrUnknownOutcome)
	}
	require.False(t, s.did("set plain x"))
}
