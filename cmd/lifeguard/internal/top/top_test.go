package top

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/show"
	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/target"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/monitor/fleet"
	"github.com/lifeguard-redis/lifeguard/monitor/server"
	"github.com/lifeguard-redis/lifeguard/serverside"
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
	p, err := fleet.Publish(c.PoolMonitor(), c, fleet.WithService("checkout"))
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
	m, _ = press(m, tea.KeyPressMsg{Code: tea.KeyEnd})
	require.NotContains(t, all(), "client-9", "scrolled away")
	m, _ = press(m, tea.KeyPressMsg{Code: tea.KeyHome}, letter('s'))
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

// live is a model with a snapshot of a server with ten clients, by name.
func live(t *testing.T, view View) (*redistest.Server, tea.Model) {
	s, to := opened(t)
	view.Sort = "name"
	var m tea.Model = newModel(t.Context(), to, fleet.DefaultName, time.Second, view)
	m, _ = m.Update(tea.WindowSizeMsg{Width: 100, Height: 24})
	m, _ = m.Update(m.(model).fetch())
	return s, m
}

func text(m tea.Model) string { return strings.Join(shown(m), "\n") }

// selected is the row with the mark.
func selected(m tea.Model) string {
	for _, l := range shown(m) {
		if strings.HasPrefix(l, ">") {
			return l
		}
	}
	return ""
}

func typed(m tea.Model, word string) tea.Model {
	for _, r := range word {
		m, _ = press(m, letter(r))
	}
	return m
}

func TestTheHelpNamesEveryKeyAndGoesAway(t *testing.T) {
	_, m := live(t, View{})
	m, _ = press(m, letter('?'))
	for _, want := range []string{"q  ", "tab ", "/  ", "K  ", "enter", "esc", "yellow ", "red "} {
		require.Contains(t, text(m), want)
	}
	for _, l := range shown(m) {
		require.LessOrEqual(t, len([]rune(l)), 100)
	}
	m, _ = press(m, tea.KeyPressMsg{Code: tea.KeyEscape})
	require.NotContains(t, text(m), "yellow ")
	m, _ = press(m, letter('?'), letter('?'))
	require.NotContains(t, text(m), "yellow ", "the key that opened it closes it")
	m, _ = press(m, letter('?'), letter('K'))
	require.NotContains(t, text(m), "Kill ", "nobody is killed who cannot be seen")
}

// On a terminal of 40 columns nothing is cut where the rest would mean something else.
func TestAtFortyColumnsWhatMattersIsThere(t *testing.T) {
	_, m := live(t, View{})
	m, _ = m.Update(tea.WindowSizeMsg{Width: 40, Height: 16})
	require.Contains(t, text(m), " of 10000 clients")
	require.Contains(t, text(m), "? help")
	for _, l := range shown(m) {
		require.LessOrEqual(t, len([]rune(l)), 40, l)
	}
	m, _ = press(m, letter('K'))
	require.Contains(t, text(m), "? y: yes")
	m, _ = press(m, letter('n'), letter('?'))
	for _, l := range shown(m) {
		require.LessOrEqual(t, len([]rune(l)), 40, l)
	}
	m, _ = press(m, tea.KeyPressMsg{Code: tea.KeyEscape}, letter('/'))
	m = typed(m, "name=client-1")
	m, _ = press(m, tea.KeyPressMsg{Code: tea.KeyEnter})
	require.Contains(t, text(m), "Clients 1 of 10")
	require.Contains(t, text(m), "filter: name=client-1")
	m, _ = m.Update(taken{err: errors.New("no answer from 10.0.0.7:6379, and this goes on to its end")})
	require.Contains(t, strings.Join(strings.Fields(text(m)), " "), "and this goes on to its end")
}

func TestAFilterShowsWhatFits(t *testing.T) {
	_, m := live(t, View{})
	m, _ = press(m, letter('/'))
	m = typed(m, "CLIENT-4q")
	require.Contains(t, text(m), `No client fits the filter "CLIENT-4q"`, "q is a letter of it")
	m, _ = press(m, tea.KeyPressMsg{Code: tea.KeyBackspace})
	require.Contains(t, text(m), "client-4")
	require.NotContains(t, text(m), "client-5")
	m, _ = press(m, tea.KeyPressMsg{Code: tea.KeyEnter})
	require.Contains(t, text(m), "filter: CLIENT-4")
	m, _ = press(m, tea.KeyPressMsg{Code: tea.KeyEscape})
	require.Contains(t, text(m), "client-5")

	m, _ = press(m, letter('/'))
	m = typed(m, "name=client-6")
	m, _ = press(m, tea.KeyPressMsg{Code: tea.KeyEnter})
	require.Contains(t, selected(m), "client-6")
	require.NotContains(t, text(m), "client-5")

	// A group opens as the filter for it.
	m, _ = press(m, tea.KeyPressMsg{Code: tea.KeyEscape}, letter('g'), tea.KeyPressMsg{Code: tea.KeyDown})
	row := selected(m)
	m, _ = press(m, tea.KeyPressMsg{Code: tea.KeyEnter})
	require.Contains(t, text(m), "filter: name="+strings.Fields(row)[0][1:])
}

func TestTheSelectionFollowsItsClientAndOpens(t *testing.T) {
	_, m := live(t, View{})
	m, _ = press(m, tea.KeyPressMsg{Code: tea.KeyDown}, tea.KeyPressMsg{Code: tea.KeyDown}, tea.KeyPressMsg{Code: tea.KeyDown})
	name := regexp.MustCompile(`client-\d`).FindString(selected(m))
	require.NotEmpty(t, name)
	m, _ = press(m, letter('r'))
	require.Contains(t, selected(m), name, "in the other order, too")
	m, _ = m.Update(m.(model).fetch())
	require.Contains(t, selected(m), name)
	m, _ = press(m, tea.KeyPressMsg{Code: tea.KeyEnter})
	require.Regexp(t, `name +`+name, text(m))
	require.Contains(t, text(m), "esc back")
	m, _ = press(m, tea.KeyPressMsg{Code: tea.KeyEscape})
	require.Contains(t, selected(m), name)
}

func TestKillEndsTheSelectedClientAfterAYes(t *testing.T) {
	s, m := live(t, View{})
	m, _ = press(m, letter('/'))
	m = typed(m, "name=client-3")
	m, _ = press(m, tea.KeyPressMsg{Code: tea.KeyEnter})
	connected := func() bool {
		return slices.ContainsFunc(s.ClientList(t), func(c redistest.ClientInfo) bool { return c.Name == "client-3" })
	}
	m, cmd := press(m, letter('K'))
	require.Contains(t, text(m), "y: yes, other keys: no   client-3 idle for")
	require.Nil(t, cmd)
	m, cmd = press(m, letter('n'))
	require.Nil(t, cmd)
	require.Contains(t, text(m), "Nobody was killed.")
	require.True(t, connected())

	m, _ = press(m, letter('K'))
	m, cmd = press(m, letter('y'))
	m, _ = m.Update(cmd())
	require.Contains(t, text(m), "Killed 127.0.0.1:")
	require.False(t, connected())
	require.NotContains(t, text(m), "Kill 127", "it is asked once")
	m, _ = press(m, letter('K'))
	require.Contains(t, text(m), "go to the table of clients", "nobody is left")
}

// 15 columns of address, 6 of age, and the name has what is left.
func TestALongAgeIsNotCutAtFortyColumns(t *testing.T) {
	s := Snapshot{Clients: []serverside.Client{{ID: 1, Addr: "127.0.0.1:54321", Name: "sentinel-44a47440-pubsub", Age: 55*time.Minute + 34*time.Second}}}
	require.Contains(t, strings.Join(View{Width: 40, Height: 12, Style: show.Colored()}.Frame(s), "\n"), "55m34s")
}

func TestColoursAndBarsShowWhatIsWrong(t *testing.T) {
	s := Snapshot{Server: "a:1", Clients: []serverside.Client{{ID: 1, Addr: "b:2", Idle: 2 * time.Hour}, {ID: 2, Addr: "b:3", OMem: 2 << 20}, {ID: 3, Addr: "b:4"}},
		Nodes: []server.Sample{{Node: "a:1", ConnectedClients: server.Opt[int64]{Val: 97, Known: true}, MaxClients: server.Opt[int64]{Val: 100, Known: true}}},
		Fleet: &fleet.Fleet{Instances: []fleet.Instance{{ID: "w", Service: "waits", Numbers: fleet.Numbers{Size: 10, Active: 10, Total: 10, Waiting: 3}, Nodes: []fleet.Node{{Name: "a:1", Numbers: fleet.Numbers{Size: 10, Active: 10, Total: 10, Waiting: 3}}}},
			{ID: "f", Service: "fine", Numbers: fleet.Numbers{Size: 10, Active: 5, Total: 10}, Nodes: []fleet.Node{{Name: "a:1", Numbers: fleet.Numbers{Size: 10, Active: 5, Total: 10}}}}}}}
	v := View{Width: 120, Height: 20, Sort: "id", Style: show.Colored()}
	frame := strings.Join(v.Frame(s), "\n")
	require.Contains(t, frame, "\x1b[1;31m██████████ 97 of 100 clients")
	require.Contains(t, frame, "\x1b[33m  2  b:3")
	require.NotContains(t, frame, "\x1b[33m  3  b:4")
	v.Tab = Pools
	v.row = 1
	frame = strings.Join(v.Frame(s), "\n")
	require.Contains(t, frame, "\x1b[1;31mwaits")
	require.Contains(t, frame, "█████░░░░░")
	small := fleet.Numbers{Size: 15, Active: 5, Total: 5, PipelineSize: 10}
	s.Fleet.Instances[1] = fleet.Instance{ID: "f", Service: "full", Numbers: small, Nodes: []fleet.Node{{Name: "a:1", Numbers: small}}}
	require.Regexp(t, `full .*██████████ +5 `, strings.Join(v.Frame(s), "\n"), "the main pool has 5 of 5 in use")
	v.Style = show.Style{} // as with NO_COLOR
	require.NotContains(t, strings.Join(v.Frame(s), "\n"), "\x1b")
}

// golden compares text with a file; with UPDATE_GOLDEN it writes the file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

func TestPoolsAreReadableAt80ColumnsAndAt120(t *testing.T) {
	s := Snapshot{Fleet: &fleet.Fleet{Alive: 2, Lost: 1, Instances: []fleet.Instance{
		{ID: "1", Service: "checkout", Host: "checkout-7d4b9c6f5-x2x8q", PID: 1, Numbers: fleet.Numbers{Total: 30, Active: 28, Idle: 2, Size: 30, Waiting: 14, Leases: 3, Dialed: 2210, Disconnected: 2180, PoolTimeouts: 12}, Nodes: []fleet.Node{{Name: "a:1", Numbers: fleet.Numbers{Total: 30, Active: 28, Idle: 2, Size: 30, Waiting: 14, Leases: 3, Dialed: 2210, Disconnected: 2180, PoolTimeouts: 12}}}},
		{ID: "2", Service: "search", Host: "search-5f6d8b7c9-abcde", PID: 1, Numbers: fleet.Numbers{Total: 8, Active: 1, Idle: 7, Size: 20, Dialed: 9, Disconnected: 1}, Nodes: []fleet.Node{{Name: "a:1", Numbers: fleet.Numbers{Total: 8, Active: 1, Idle: 7, Size: 20, Dialed: 9, Disconnected: 1}}}},
		{ID: "3", Service: "search", Host: "search-5f6d8b7c9-zzzzz", PID: 1, Lost: true, Age: 95 * time.Second, Numbers: fleet.Numbers{Total: 8, Size: 20}, Nodes: []fleet.Node{{Name: "a:1", Numbers: fleet.Numbers{Total: 8, Size: 20}}}},
	}}}
	for _, width := range []int{80, 120} {
		table := View{Width: width, Tab: Pools}.table(s)
		lines := []string{table.head}
		for _, r := range table.rows {
			lines = append(lines, r.text)
		}
		golden(t, fmt.Sprintf("pools-%d.txt", width), strings.Join(lines, "\n")+"\n")
	}
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
