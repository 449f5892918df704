package demo

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
)

// note adds a line to the summary.
func (d *demo) note(format string, args ...any) {
	d.notes = append(d.notes, fmt.Sprintf(format, args...))
}

func (d *demo) summary(ctx context.Context) {
	took := time.Since(d.start)
	title := fmt.Sprintf("Summary after %.1f s", took.Seconds())
	if ctx.Err() != nil {
		title += ", ended early as asked"
	}
	d.screen.title(title)
	line := func(format string, args ...any) { d.screen.printf("  "+format+"\n", args...) }

	line("%d commands and %d leases, %d failed", d.load.commands.Load(), d.load.leases.Load(), d.load.failed.Load())
	if n := d.load.broken.Load(); n > 0 {
		line("%d leases lost their connection while they held it, and said so", n)
	}
	dialed, ended := d.watch.counts()
	line("%d connections opened, %d closed%s, %d open, %d leased", dialed, sum(ended), reasons(ended),
		len(d.client.Conns()), len(d.client.Leases()))
	for _, n := range d.notes {
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
