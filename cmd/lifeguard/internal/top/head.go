package top

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/show"
)

// head shows the state of the server and the fleet.
func (v View) head(s Snapshot) []string {
	title := "lifeguard top  " + show.Clean(s.Server) + "  " + s.At.Format("15:04:05")
	if v.Paused {
		title += "  PAUSED"
	}
	lines := []string{v.Style.Bold(title)}
	for i, n := range s.Nodes {
		var parts []string
		add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
		name := ""
		if len(s.Nodes) > 1 {
			name = n.Node + " "
		}
		add("%s%s", name, strings.Join(slices.DeleteFunc([]string{n.Product.Or(""), n.Version.Or(""), n.Role.Or("")}, func(p string) bool { return p == "" }), " "))
		connected, ok := n.ConnectedClients.Get()
		if limit, known := n.MaxClients.Get(); ok && known {
			share, _ := n.ShareOfMaxClients()
			add("%s", v.Style.Share(share, fmt.Sprintf("%s %d of %d clients", show.Bar(share, 10), connected, limit)))
		} else if ok {
			add("%d clients", connected)
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
		if r := n.RejectedConnections.Or(0); r > 0 {
			add("%s", v.Style.Red(fmt.Sprintf("%d rejected", r)))
		}
		if e := n.EvictedClients.Or(0); e > 0 {
			add("%s", v.Style.Yellow(fmt.Sprintf("%d evicted", e)))
		}
		if m, ok := n.ClientMemory.Get(); ok {
			add("client memory %s", show.Bytes(m))
		}
		if up, ok := n.Uptime.Get(); ok {
			add("up %s", show.Seconds(up))
		}
		lines = append(lines, strings.Join(parts, "  "))
	}
	if s.Fleet != nil && len(s.Fleet.Instances) > 0 {
		f := s.Fleet
		text := fmt.Sprintf("fleet %s: %s", show.Clean(f.Name), show.Count(f.Alive, "instance"))
		if f.Lost > 0 {
			text += ", " + v.Style.Red(fmt.Sprintf("%d lost", f.Lost))
		}
		text += fmt.Sprintf("  %s: %d active, %d idle", show.Count(f.Sum.Total, "connection"), f.Sum.Active, f.Sum.Idle)
		if f.Sum.Waiting > 0 {
			text += "  " + v.Style.Red(fmt.Sprintf("%d waiting", f.Sum.Waiting))
		}
		if f.Sum.Leaks > 0 {
			text += "  " + v.Style.Red(fmt.Sprintf("%d leaks", f.Sum.Leaks))
		}
		lines = append(lines, text)
	}
	for _, t := range s.Trouble {
		lines = append(lines, v.Style.Yellow("! "+show.Clean(t)))
	}
	return lines
}
