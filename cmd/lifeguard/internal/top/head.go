package top

import (
	"fmt"
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"

	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/show"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

// head shows the state of the server and the fleet.
func (v View) head(s Snapshot) []string {
	at := s.At.Format("15:04:05")
	if v.Paused {
		at = "PAUSED"
	}
	title := "lifeguard top  " + show.Clean(s.Server) + "  " + at
	if v.Width > 0 && ansi.StringWidth(title) > v.Width {
		title = at + "  " + show.Clean(s.Server)
	}
	lines := []string{v.Style.Bold(title)}
	narrow := v.Width > 0 && v.Width < 60
	for i, n := range s.Nodes {
		var parts []string
		add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
		name := ""
		if len(s.Nodes) > 1 {
			name = n.Node + " "
		}
		what := []string{n.Product.Or(""), n.Version.Or(""), n.Role.Or("")}
		if narrow {
			what = what[2:]
		}
		add("%s%s", name, strings.Join(slices.DeleteFunc(what, func(p string) bool { return p == "" }), " "))
		connected, ok := n.ConnectedClients.Get()
		if limit, known := n.MaxClients.Get(); ok && known {
			share, _ := n.ShareOfMaxClients()
			bar := show.Bar(share, 10) + " "
			if narrow {
				bar = ""
			}
			add("%s", v.Style.Share(share, fmt.Sprintf("%s%d of %d clients", bar, connected, limit)))
		} else if ok {
			add("%s", errtext.Count(connected, "client"))
		}
		if r := n.RejectedConnections.Or(0); r > 0 {
			add("%s", v.Style.Red(fmt.Sprintf("%d rejected", r)))
		}
		if e := n.EvictedClients.Or(0); e > 0 {
			add("%s", v.Style.Yellow(fmt.Sprintf("%d evicted", e)))
		}
		if b := n.BlockedClients.Or(0); b > 0 {
			add("%d blocked", b)
		}
		if b := n.PubSubClients.Or(0); b > 0 {
			add("%d subscribed", b)
		}
		if i < len(s.since) && s.since[i].Elapsed > 0 {
			add("%.1f new/s", float64(s.since[i].Connected.Or(0))/s.since[i].Elapsed.Seconds())
		}
		if m, ok := n.ClientMemory.Get(); ok {
			add("client memory %s", show.Bytes(m))
		}
		if up, ok := n.Uptime.Get(); ok {
			add("up %s", show.Seconds(up))
		}
		lines = append(lines, show.Fitting(parts, "  ", v.Width))
	}
	if s.Fleet != nil && len(s.Fleet.Instances) > 0 {
		f := s.Fleet
		text := fmt.Sprintf("fleet %s: %s", show.Clean(f.Name), errtext.Count(f.Alive, "instance"))
		if f.Lost > 0 {
			text += ", " + v.Style.Red(fmt.Sprintf("%d lost", f.Lost))
		}
		text += fmt.Sprintf("  %s: %d active, %d idle", errtext.Count(f.Sum.Total, "connection"), f.Sum.Active, f.Sum.Idle)
		if f.Sum.Waiting > 0 {
			text += "  " + v.Style.Red(fmt.Sprintf("%d waiting", f.Sum.Waiting))
		}
		if f.Sum.Leaks > 0 {
			text += "  " + v.Style.Red(errtext.Count(f.Sum.Leaks, "leak"))
		}
		lines = append(lines, text)
	}
	for _, t := range s.Trouble {
		text := "! " + show.Clean(t)
		if v.Width > 4 {
			text = "! " + show.Wrap(show.Clean(t), v.Width, 2)
		}
		for l := range strings.SplitSeq(text, "\n") {
			lines = append(lines, v.Style.Yellow(l))
		}
	}
	return lines
}
