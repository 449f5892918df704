package top

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/clients"
	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/show"
	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/target"
)

// Live shows snapshots, one every period, until q is pressed or ctx ends. A server
// that goes away is said, and shown again when it is back.
func Live(ctx context.Context, t *target.Target, fleetName string, every time.Duration, view View, in io.Reader, out io.Writer) error {
	return run(ctx, newModel(ctx, t, fleetName, every, view), in, out)
}

func run(ctx context.Context, m tea.Model, in io.Reader, out io.Writer, opts ...tea.ProgramOption) error {
	opts = append([]tea.ProgramOption{tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(out), tea.WithoutSignalHandler()}, opts...)
	_, err := tea.NewProgram(m, opts...).Run()
	if ctx.Err() != nil && errors.Is(err, tea.ErrProgramKilled) {
		return nil // it was asked for
	}
	return err
}

// model is what bubbletea drives; it is used by one goroutine.
type model struct {
	take  func(before Snapshot) (Snapshot, error)
	every time.Duration
	view  View
	last  Snapshot
	seen  bool
	err   error // why there is no newer snapshot
}

type (
	taken struct { // a snapshot has come
		s   Snapshot
		err error
	}
	again struct{} // it is time for the next one
)

func newModel(ctx context.Context, t *target.Target, fleetName string, every time.Duration, view View) model {
	view.Width, view.Height = 80, 24 // until the terminal says otherwise
	return model{every: every, view: view, last: Snapshot{Server: t.Name}, take: func(before Snapshot) (Snapshot, error) {
		ctx, cancel := context.WithTimeout(ctx, max(2*every, target.DefaultTimeout))
		defer cancel()
		return Take(ctx, t, fleetName, before)
	}}
}

func (m model) fetch() tea.Msg {
	s, err := m.take(m.last)
	return taken{s, err}
}

// Init implements tea.Model.
func (m model) Init() tea.Cmd { return m.fetch }

// Update implements tea.Model.
func (m model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case taken:
		if m.err = msg.err; msg.err == nil && !m.view.Paused {
			m.last, m.seen = msg.s, true
		}
		return m, tea.Tick(m.every, func(time.Time) tea.Msg { return again{} })
	case again:
		if m.view.Paused {
			return m, tea.Tick(m.every, func(time.Time) tea.Msg { return again{} })
		}
		return m, m.fetch
	case tea.WindowSizeMsg:
		m.view.Width, m.view.Height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		return m.key(msg.String())
	}
	return m, nil
}

func (m model) key(key string) (tea.Model, tea.Cmd) {
	v := &m.view
	page := max(v.Height-8, 1)
	switch key {
	case "q", "ctrl+c", "esc":
		return m, tea.Quit
	case "tab", "right":
		v.Tab, v.Offset = (v.Tab+1)%tabs, 0
	case "shift+tab", "left":
		v.Tab, v.Offset = (v.Tab+tabs-1)%tabs, 0
	case "s":
		v.Sort = next(clients.SortKeys, v.sort())
	case "g":
		if v.Tab == Groups {
			v.Group = next(clients.GroupKeys, v.group())
		}
		v.Tab, v.Offset = Groups, 0
	case "r":
		v.Reverse = !v.Reverse
	case "space":
		v.Paused = !v.Paused
	case "down", "j":
		v.Offset++
	case "up", "k":
		v.Offset--
	case "pgdown":
		v.Offset += page
	case "pgup":
		v.Offset -= page
	case "home":
		v.Offset = 0
	case "end":
		v.Offset = 1 << 30
	}
	v.Offset = max(min(v.Offset, m.view.scrollable(m.last)-1), 0)
	return m, nil
}

func next(all []string, now string) string { return all[(slices.Index(all, now)+1)%len(all)] }

// View implements tea.Model.
func (m model) View() tea.View {
	s := m.last
	if m.err != nil {
		s.Trouble = append(slices.Clone(s.Trouble), m.err.Error())
	}
	lines := []string{"Asking " + show.Clean(s.Server) + " ..."}
	if m.seen || m.err != nil {
		lines = m.view.Frame(s)
	}
	v := tea.NewView(strings.Join(lines, "\n"))
	v.AltScreen = true
	return v
}
