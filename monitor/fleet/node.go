package fleet

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// sumNodes adds up the nodes of the living instances, one for each server. Instances that know a
// server's run id are matched by it; others by the address.
func (f *Fleet) sumNodes() []Node {
	f.runOf = map[string]string{}
	f.each(func(n *Node) {
		if known, ok := f.runOf[n.Name]; n.RunID != "" && (!ok || known == n.RunID) {
			f.runOf[n.Name] = n.RunID
		} else if n.RunID != "" {
			f.runOf[n.Name] = "" // two servers at one address, such as localhost
		}
	})
	all := map[string]*Node{}
	names := map[string]map[string]int{} // how many instances use each name
	f.each(func(n *Node) {
		key := f.server(n)
		to := all[key]
		if to == nil {
			to = &Node{RunID: cmp.Or(n.RunID, f.runOf[n.Name])}
			all[key], names[key] = to, map[string]int{}
		}
		to.add(n.Numbers)
		to.MaxClients = max(to.MaxClients, n.MaxClients)
		names[key][n.Name]++
	})
	taken := map[string]bool{}
	var out []Node
	for _, key := range slices.Sorted(maps.Keys(all)) {
		n := all[key]
		spelled := slices.Sorted(maps.Keys(names[key]))
		n.Name = spelled[0]
		for _, s := range spelled {
			if names[key][s] > names[key][n.Name] {
				n.Name = s
			}
		}
		if len(spelled) > 1 {
			n.Names = spelled
		}
		if taken[n.Name] {
			n.Name += " (" + n.RunID[:min(8, len(n.RunID))] + ")"
		}
		taken[n.Name] = true
		out = append(out, *n)
	}
	slices.SortFunc(out, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// server identifies the server of an instance's node.
func (f *Fleet) server(n *Node) string {
	if run := cmp.Or(n.RunID, f.runOf[n.Name]); run != "" {
		return "run " + run
	}
	return "name " + n.Name
}

// each calls fn for each node of a living instance.
func (f *Fleet) each(fn func(*Node)) {
	for i := range f.Instances {
		if f.Instances[i].Lost {
			continue
		}
		for k := range f.Instances[i].Nodes {
			fn(&f.Instances[i].Nodes[k])
		}
	}
}

// ask sets the run ids of the nodes. It queries the servers again after new connections were made:
// another server may be at the address now.
func (p *Publisher) ask(ctx context.Context, i *Instance) {
	if i.Dialed != p.dialed && !p.noInfo {
		p.dialed = i.Dialed
		p.runIDs = p.who(ctx)
	}
	for k := range i.Nodes {
		i.Nodes[k].RunID = p.runIDs[i.Nodes[k].Name]
	}
}

// who queries the servers of our client for their run ids. A server that does not answer is missing
// in the result.
func (p *Publisher) who(ctx context.Context) map[string]string {
	var mu sync.Mutex
	out := map[string]string{}
	ask := func(ctx context.Context, addr string, c redis.Cmdable) {
		text, err := c.Info(ctx, "server").Result()
		mu.Lock()
		defer mu.Unlock()
		if redis.IsPermissionError(err) && !p.noInfo {
			p.noInfo = true
			p.gap(fmt.Sprintf("one server may be seen as several, by its addresses: INFO: %v", err))
		}
		for line := range strings.Lines(text) {
			if id, ok := strings.CutPrefix(line, "run_id:"); ok {
				out[addr] = strings.TrimSpace(id)
			}
		}
	}
	each := func(ctx context.Context, one *redis.Client) error {
		ask(ctx, one.Options().Addr, one)
		return nil
	}
	switch c := p.rdb.(type) {
	case interface {
		ForEachMaster(context.Context, func(context.Context, *redis.Client) error) error
	}:
		_ = c.ForEachMaster(ctx, each)
	case interface {
		ForEachShard(context.Context, func(context.Context, *redis.Client) error) error
	}:
		_ = c.ForEachShard(ctx, each)
	case interface{ Options() *redis.Options }:
		ask(ctx, c.Options().Addr, p.rdb)
	}
	return out
}

func (p *Publisher) gap(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.Gaps = append(p.status.Gaps, text)
}
