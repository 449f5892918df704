package top

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/target"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/monitor/fleet"
)

func TestMain(m *testing.M) { redistest.MainWithoutLeaks(m) }

// opened is a server with ten named clients, and a target for it.
func opened(t *testing.T) (*redistest.Server, *target.Target) {
	t.Helper()
	s := redistest.Start(t)
	for i := range 10 {
		opt := s.Options()
		opt.ClientName = "client-" + strconv.Itoa(i)
		c := redis.NewClient(opt)
		t.Cleanup(func() { _ = c.Close() })
		require.NoError(t, c.Ping(t.Context()).Err())
	}
	host, port, err := net.SplitHostPort(s.Addr())
	require.NoError(t, err)
	n, _ := strconv.Atoi(port)
	to, err := target.Open(t.Context(), target.Config{Host: host, Port: n})
	require.NoError(t, err)
	t.Cleanup(func() { to.Close() })
	return s, to
}

// press gives a model keys, and the last command that they lead to.
func press(m tea.Model, keys ...tea.KeyPressMsg) (tea.Model, tea.Cmd) {
	var cmd tea.Cmd
	for _, k := range keys {
		m, cmd = m.Update(k)
	}
	return m, cmd
}

func letter(r rune) tea.KeyPressMsg { return tea.KeyPressMsg{Code: r, Text: string(r)} }

func shown(m tea.Model) []string { return strings.Split(m.(model).View().Content, "\n") }

func TestTheViewFollowsTheSizeOfTheTerminal(t *testing.T) {
	_, to := opened(t)
	var m tea.Model = newModel(t.Context(), to, fleet.DefaultName, time.Second, View{})
	m, _ = m.Update(m.(model).fetch())
	for _, size := range [][2]int{{80, 24}, {120, 40}, {30, 8}, {10, 3}, {1, 1}, {200, 100}} {
		m, _ = m.Update(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
		lines := shown(m)
		require.Len(t, lines, size[1])
		for _, l := range lines {
			require.LessOrEqual(t, len([]rune(l)), size[0], l)
		}
	}
}

func TestTheKeysDoWhatTheFootSays(t *testing.T) {
	s, to := opened(t)
	c, err := managed.New(s.Options())
	require.NoError(t, err)
	defer c.Close()
	p, err := fleet.Publish(c.PoolMonitor(), c, fleet.Service("checkout"))
	require.NoError(t, err)
	defer p.Close()
	var m tea.Model = newModel(t.Context(), to, fleet.DefaultName, time.Second, View{Sort: "name"})
	require.Eventually(t, func() bool {
		m, _ = m.Update(m.(model).fetch())
		return len(m.(model).last.Fleet.Instances) == 1
	}, 10*time.Second, 20*time.Millisecond)
	m, _ = m.Update(tea.WindowSizeMsg{Width: 140, Height: 12})
	all := func() string { return strings.Join(shown(m), "\n") }

	require.Contains(t, all(), "q quit")
	m, _ = press(m, letter('r'))
	require.Less(t, strings.Index(all(), "client-9"), strings.Index(all(), "client-8"))
	m, _ = press(m, tea.KeyPressMsg{Code: tea.KeyDown})
	require.NotContains(t, all(), "client-9")
	m, _ = press(m, tea.KeyPressMsg{Code: tea.KeyUp}, letter('s'))
	require.Contains(t, all(), "s sort: lib")
	m, _ = press(m, letter('g'))
	require.Contains(t, all(), "g group: name")
	require.Contains(t, all(), "LONGEST IDLE")
	m, _ = press(m, letter('g'))
	require.Contains(t, all(), "g group: lib")
	m, _ = press(m, tea.KeyPressMsg{Code: tea.KeyTab})
	require.Contains(t, all(), "checkout")
	m, _ = press(m, tea.KeyPressMsg{Code: tea.KeySpace, Text: " "})
	require.Contains(t, all(), "PAUSED")
	m, _ = press(m, tea.KeyPressMsg{Code: tea.KeySpace, Text: " "})
	require.NotContains(t, all(), "PAUSED")

	m, _ = m.Update(taken{err: errors.New("no answer from there")})
	require.Contains(t, all(), "! no answer from there")
	require.Contains(t, all(), "checkout", "the last picture stays")
	_, cmd := press(m, letter('q'))
	require.IsType(t, tea.QuitMsg{}, cmd())
}

// notify hears of every write.
type notify struct {
	bytes.Buffer
	came chan struct{}
	find string
}

func (n *notify) Write(b []byte) (int, error) {
	k, err := n.Buffer.Write(b)
	if n.find != "" && strings.Contains(n.String(), n.find) {
		n.find = ""
		close(n.came)
	}
	return k, err
}

func TestItRunsUntilQIsPressedOrTheContextEnds(t *testing.T) {
	_, to := opened(t)
	for _, how := range []string{"q", "ctx"} {
		ctx, cancel := context.WithCancel(t.Context())
		keys, press := io.Pipe()
		out := &notify{came: make(chan struct{}), find: "client-3"}
		ended := make(chan error, 1)
		go func() {
			ended <- run(ctx, newModel(ctx, to, fleet.DefaultName, 100*time.Millisecond, View{}), keys, out, tea.WithWindowSize(120, 30), tea.WithEnvironment([]string{"TERM=xterm-256color"}))
		}()
		select {
		case <-out.came:
		case <-time.After(20 * time.Second):
			t.Fatal("it shows nothing")
		}
		if how == "q" {
			_, err := press.Write([]byte("q"))
			require.NoError(t, err)
		} else {
			cancel()
		}
		select {
		case err := <-ended:
			require.NoError(t, err, how)
		case <-time.After(20 * time.Second):
			t.Fatal("it does not end by " + how)
		}
		cancel()
		_ = press.Close()
	}
}
