package demo

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

// note adds a line to the summary.
func (d *demo) note(format string, args ...any) {
	d.notes = append(d.notes, fmt.Sprintf(format, args...))
}

// summary is printed at the end.
type summary struct {
	Server   string               `json:"server"`
	Seconds  float64              `json:"seconds"`
	Early    bool                 `json:"ended_early"`
	Commands int64                `json:"commands"`
	Leases   int64                `json:"leases"`
	Failed   int64                `json:"failed"`
	Broken   int64                `json:"leases_broken"`
	Opened   int                  `json:"opened"`
	Closed   map[hooks.Reason]int `json:"closed"` // by reason
	Open     int                  `json:"open"`
	Leased   int                  `json:"leased"`
	Notes    []string             `json:"notes"` // results of the phases
}

func (d *demo) sum(ctx context.Context) summary {
	opened, closed := d.watch.counts()
	return summary{Server: d.server.name, Seconds: time.Since(d.start).Seconds(), Early: ctx.Err() != nil,
		Commands: d.load.commands.Load(), Leases: d.load.leases.Load(), Failed: d.load.failed.Load(), Broken: d.load.broken.Load(),
		Opened: opened, Closed: closed, Open: len(d.client.Conns()), Leased: len(d.client.Leases()), Notes: d.notes}
}

func (s summary) write(to *screen) {
	title := fmt.Sprintf("Summary after %.1f s", s.Seconds)
	if s.Early {
		title += ", ended early as asked"
	}
	to.title(title)
	line := func(format string, args ...any) { to.printf("  "+format+"\n", args...) }

	line("%d commands and %d leases, %d failed", s.Commands, s.Leases, s.Failed)
	if s.Broken > 0 {
		line("%s ended with the connection, and said so", errtext.Count(s.Broken, "lease"))
	}
	line("%d connections opened, %d closed%s, %d open, %d leased", s.Opened, sum(s.Closed), reasons(s.Closed), s.Open, s.Leased)
	for _, n := range s.Notes {
		line("%s", n)
	}
}

func sum(m map[hooks.Reason]int) (n int) {
	for _, x := range m {
		n += x
	}
	return n
}

func reasons(ended map[hooks.Reason]int) string {
	if len(ended) == 0 {
		return ""
	}
	all := make([]string, 0, len(ended))
	for r, n := range ended {
		all = append(all, fmt.Sprintf("%s %d", r, n))
	}
	sort.Strings(all)
	return " (" + strings.Join(all, ", ") + ")"
}
