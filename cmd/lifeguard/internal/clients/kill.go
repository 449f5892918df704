package clients

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/show"
	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/target"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
	"github.com/lifeguard-redis/lifeguard/monitor/fleet"
	"github.com/lifeguard-redis/lifeguard/serverside"
)

// killed is a client that was closed, in JSON.
type killed struct {
	Reason serverside.Reason `json:"reason"`
	Client serverside.Client `json:"client"`
}

func kill(ctx context.Context, t *target.Target, c Config, w io.Writer) error {
	p := c.policy()
	spare := []func(serverside.Client) bool{serverside.SpareNames(c.SpareNames...)}
	if c.SpareFleet != "" {
		live, err := c.spareFleet(ctx, t)
		if err != nil {
			return err
		}
		spare = append(spare, serverside.SpareLive(live))
	}
	p.Spare = serverside.SpareAny(spare...)
	asked := false
	meant := func(cl serverside.Client) bool { return !t.Own(cl) }
	if c.Confirm != nil && !c.DryRun {
		dry := p
		dry.DryRun = true
		report, err := once(ctx, t, dry, meant)
		if err != nil {
			return err
		}
		if hit := hitBy(report); len(hit) > 0 {
			c.note(strings.Join(Table(hit, Layout{Nodes: t.Cluster, Width: show.Width(w, 0)}), "\n"))
			yes, err := c.Confirm(fmt.Sprintf("Close %s of %s?", errtext.Count(len(hit), "client"), t.Name))
			if err != nil {
				return err
			}
			if !yes {
				fmt.Fprintln(w, "Nothing was closed.")
				return nil
			}
			// A client that was not on the list is not closed without confirmation.
			listed := map[string]bool{}
			for _, cl := range hit {
				listed[Key(cl)] = true
			}
			meant = func(cl serverside.Client) bool { return listed[Key(cl)] }
			asked = true
		}
	}
	report, err := once(ctx, t, p, meant)
	if c.JSON {
		list := make([]killed, len(report.Kills))
		for i, k := range report.Kills {
			list[i] = killed{k.Reason, k.Client}
		}
		out := map[string]any{"server": t.Name, "dry_run": report.DryRun, "nodes": report.Nodes, "seen": report.Seen, "due": report.Due,
			"spared": report.Spared, "closed": report.Closed, "gone": report.Gone, "refused": report.Refused, "unknown": report.Unknown, "left": report.Left, "took_seconds": report.Took.Seconds(), "clients": list}
		return errors.Join(show.JSON(w, out), err)
	}
	if hit := hitBy(report); len(hit) > 0 && !asked {
		printTable(w, show.StyleOf(w), Table(hit, Layout{Nodes: t.Cluster, Width: show.Width(w, 0)}))
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w, summary(report, p, err))
	return err
}

func (c Config) note(text string) {
	if c.Note != nil {
		c.Note(text)
	}
}

// spareFleet waits until it is known which connections belong to the fleet.
func (c Config) spareFleet(ctx context.Context, t *target.Target) (*fleet.Members, error) {
	f, err := fleet.Read(ctx, t.UniversalClient, fleet.WithName(c.SpareFleet))
	if err != nil {
		return nil, t.Explain(err)
	}
	if f.Alive == 0 {
		return nil, fmt.Errorf("--spare-fleet %s: no instance of this fleet is alive, so there is nothing to spare by: nothing was closed", c.SpareFleet)
	}
	live, err := fleet.NewMembers(t.UniversalClient, fleet.WithName(c.SpareFleet), fleet.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return nil, err
	}
	var longest time.Duration
	for _, i := range f.Instances {
		longest = max(longest, i.LostAfter)
	}
	c.note(fmt.Sprintf("Looking for %s (or longer) which instances of the fleet publish: one that is missing may still run. Until then nothing is closed.", longest))
	if err := live.Wait(ctx); err != nil {
		return nil, fmt.Errorf("--spare-fleet %s: nothing was closed: %w", c.SpareFleet, t.Explain(err))
	}
	return live, nil
}

// once makes a sweep over the selected clients. The others count as if they were not due.
func once(ctx context.Context, t *target.Target, p serverside.Policy, meant func(serverside.Client) bool) (serverside.Report, error) {
	others := 0
	spare := p.Spare
	p.Spare = func(cl serverside.Client) bool {
		if !meant(cl) {
			others++
			return true
		}
		return spare(cl)
	}
	// Several reapers at once do no harm, and a lock would write to the server.
	r, err := serverside.NewReaper(t.UniversalClient, p, serverside.WithoutLock(), serverside.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return serverside.Report{}, err
	}
	report, err := r.Once(ctx)
	report.Due -= others
	report.Spared -= others
	if err != nil {
		err = t.Explain(err)
	}
	return report, err
}

func hitBy(r serverside.Report) []serverside.Client {
	hit := make([]serverside.Client, len(r.Kills))
	for i, k := range r.Kills {
		hit[i] = k.Client
	}
	return hit
}

// Key identifies a client from one listing to the next: ids restart when the server does.
func Key(c serverside.Client) string { return fmt.Sprintf("%s %d %s", c.Node, c.ID, c.Addr) }

// End closes one client, if it still exists, and reports whether it did. Connections of the server
// itself are refused.
func End(ctx context.Context, t *target.Target, c serverside.Client) (bool, error) {
	if c.OfServers() {
		return false, errors.New("this connection belongs to replication, to a Sentinel or to slot migration: it is not closed here")
	}
	ended := false
	err := t.EachNode(ctx, func(ctx context.Context, node *redis.Client) error {
		if t.Cluster && node.Options().Addr != c.Node {
			return nil
		}
		n, err := node.ClientKillByFilter(ctx, "ID", fmt.Sprint(c.ID), "ADDR", c.Addr, "SKIPME", "YES").Result()
		ended = ended || n > 0 // in a cluster, only the node that has the client is asked
		return err
	})
	if err != nil {
		return false, t.Explain(err)
	}
	return ended, nil
}

// summary describes the result of a sweep in a sentence or two.
func summary(r serverside.Report, p serverside.Policy, err error) string {
	var b strings.Builder
	limits := []string{}
	if p.MaxAge > 0 {
		limits = append(limits, "older than "+show.Seconds(p.MaxAge))
	}
	if p.MaxIdle > 0 {
		limits = append(limits, "idle for "+show.Seconds(p.MaxIdle))
	}
	whom := strings.Join(limits, " or ")
	switch {
	case r.DryRun:
		fmt.Fprintf(&b, "Would close %d of %s (%s); nothing was closed.", len(r.Kills), errtext.Count(r.Seen, "client"), whom)
	case r.Closed == 0 && r.Due == 0 && err == nil:
		fmt.Fprintf(&b, "Nothing to close: none of %s is %s and fits.", errtext.Count(r.Seen, "client"), whom)
	default:
		fmt.Fprintf(&b, "Closed %d of %s (%s) in %s.", r.Closed, errtext.Count(r.Seen, "client"), whom, show.Short(r.Took))
	}
	if r.Spared > 0 {
		fmt.Fprintf(&b, " Spared: %d.", r.Spared)
	}
	if r.Gone > 0 {
		fmt.Fprintf(&b, " Gone, or in use again, when it was their turn: %d.", r.Gone)
	}
	if r.Refused > 0 {
		fmt.Fprintf(&b, " The server refused: %d.", r.Refused)
	}
	if r.Unknown > 0 {
		fmt.Fprintf(&b, " Not known, because the reply was lost: %d.", r.Unknown)
	}
	if r.Left > 0 && !r.DryRun {
		fmt.Fprintf(&b, " Not tried: %d.", r.Left)
	}
	return b.String()
}
