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
	"github.com/lifeguard-redis/lifeguard/serverside"
)

// Live shows snapshots, one every period, until q is pressed or ctx ends. If the server becomes
// unreachable, that is shown, until it is back.
func Live(ctx context.Context, t *target.Target, fleetName string, every time.Duration, view View, in io.Reader, out io.Writer) error {
	return run(ctx, newModel(ctx, t, fleetName, every, view), in, out)
}

func run(ctx context.Context, m tea.Model, in io.Reader, out io.Writer, opts ...tea.ProgramOption) error {
	opts = append([]tea.ProgramOption{tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(out), tea.WithoutSignalHandler()}, opts...)
	_, err := tea.NewProgram(m, opts...).Run()
	if ctx.Err() != nil && errors.Is(err, tea.ErrProgramKilled) {
		return nil // the user ended it
	}
	return err
}

// model is the bubbletea model; it is used by one goroutine.
type model struct {
	take  func(before Snapshot) (Snapshot, error)
	end   func(serverside.Client) (bool, error)
	due   *serverside.Client // to be closed, if the answer is yes
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
	ended struct { // a client was to be
		c   serverside.Client
		was bool
		err error
	}
)

func newModel(ctx context.Context, t *target.Target, fleetName string, every time.Duration, view View) model {
	view.Width, view.Height = 80, 24 // until the terminal says otherwise
	within := func() (context.Context, context.CancelFunc) {
		return context.WithTimeout(ctx, max(2*every, target.DefaultTimeout))
	}
	return model{every: every, view: view, last: Snapshot{Server: t.Name},
		take: func(before Snapshot) (Snapshot, error) {
			ctx, cancel := within()
			defer cancel()
			return Take(ctx, t, fleetName, before)
		},
		end: func(c serverside.Client) (bool, error) {
			ctx, cancel := within()
			defer cancel()
			return clients.End(ctx, t, c)
		},
	}
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
			m.view = m.view.follow(m.last)
		}
		return m, tea.Tick(m.every, func(time.Time) tea.Msg { return again{} })
	case again:
		if m.view.Paused {
			return m, tea.Tick(m.every, func(time.Time) tea.Msg { return again{} })
		}
		return m, m.fetch
	case tea.WindowSizeMsg:
		m.view.Width, m.view.Height = msg.Width, msg.Height
	case ended:
		m.view.said = outcome(msg)
		if msg.was && !m.view.Paused {
			m.last.Clients = slices.DeleteFunc(slices.Clone(m.last.Clients), func(c serverside.Client) bool { return clients.Key(c) == clients.Key(msg.c) })
			m.view = m.view.follow(m.last)
		}
	case tea.KeyPressMsg:
		return m.key(msg)
	}
	return m, nil
}

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
