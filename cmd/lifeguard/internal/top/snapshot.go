// Package top is a live view of a server's clients and of a fleet's pools.
package top

import (
	"context"
	"errors"
	"time"

	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/target"
	"github.com/lifeguard-redis/lifeguard/monitor/fleet"
	"github.com/lifeguard-redis/lifeguard/monitor/server"
	"github.com/lifeguard-redis/lifeguard/serverside"
)

// Snapshot is the state at one moment. It is a value.
type Snapshot struct {
	Server  string              `json:"server"`
	At      time.Time           `json:"at"`
	Nodes   []server.Sample     `json:"nodes"`
	Clients []serverside.Client `json:"clients"`
	Fleet   *fleet.Fleet        `json:"fleet,omitempty"` // nil: it could not be read
	Trouble []string            `json:"trouble,omitempty"`

	manyNodes bool
	since     []server.Delta // for each of Nodes; since the snapshot before
}

// Take makes a snapshot. It returns an error only if nothing could be read: other failures are in
// Trouble.
func Take(ctx context.Context, t *target.Target, fleetName string, before Snapshot) (Snapshot, error) {
	s := Snapshot{Server: t.Name, At: time.Now(), manyNodes: t.Cluster}
	var errs []error
	trouble := func(err error) {
		if err != nil {
			errs = append(errs, err)
			s.Trouble = append(s.Trouble, t.Explain(err).Error())
		}
	}
	var err error
	s.Nodes, err = server.GetAll(ctx, t.UniversalClient)
	trouble(err)
	if len(s.Nodes) == 0 && err != nil {
		return s, t.Explain(err)
	}
	s.Clients, err = t.Clients(ctx, serverside.Filter{})
	trouble(err)
	if f, err := fleet.Read(ctx, t.UniversalClient, fleet.WithName(fleetName)); err != nil {
		trouble(err)
	} else {
		s.Fleet = &f
	}
	if ctx.Err() != nil {
		return s, errors.Join(errs...)
	}
	for _, n := range s.Nodes {
		d := server.Delta{}
		for _, b := range before.Nodes {
			if b.Node == n.Node {
				d = n.Since(b)
			}
		}
		s.since = append(s.since, d)
	}
	if s.Clients == nil {
		s.Clients = []serverside.Client{}
	}
	return s, nil
}
