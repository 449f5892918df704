package demo

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
)

// status returns the current state in one line.
func (d *demo) status() string {
	states := make(map[hooks.State]int)
	conns := d.client.Conns()
	for _, i := range conns {
		states[i.State]++
	}
	s := fmt.Sprintf("%4.1f s  %d commands, %d leases, %d errors; %d connections:", time.Since(d.start).Seconds(),
		d.load.commands.Load(), d.load.leases.Load(), d.load.failed.Load(), len(conns))
	for _, st := range []hooks.State{hooks.StateLeased, hooks.StateBusy, hooks.StateIdle, hooks.StateHandshake} {
		if states[st] > 0 {
			s += fmt.Sprintf(" %d %v", states[st], st)
		}
	}
	return s
}

// table lists every connection and its holder.
func (d *demo) table() []string {
	holders := make(map[uint64]string)
	for _, l := range d.client.Leases() {
		holders[l.Conn.ID] = fmt.Sprintf("%s, %v, %s", l.Label, ms(l.Age), shorten(l.Site()))
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CONN\tPOOL\tSTATE\tAGE\tIDLE\tIN\tOUT\tLAST\tLEASED TO")
	for _, i := range d.client.Conns() {
		fmt.Fprintf(w, "%d\t%v\t%v\t%.1fs\t%v\t%s\t%s\t%s\t%s\n", i.ID, i.Pool, i.State, i.Age.Seconds(), ms(i.Idle),
			size(i.BytesIn), size(i.BytesOut), i.LastCommand, holders[i.ID])
	}
	_ = w.Flush()
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return lines
}

func size(n uint64) string {
	if n < 10_000 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%d kB", n/1000)
}
