// Package serverside inspects connections from the server's side: who is connected, and which
// connections nobody needs any more. It works on any go-redis client, also on one without
// lifeguard.
//
//	clients, err := serverside.List(ctx, rdb, serverside.Filter{Name: "web-*", MinIdle: time.Hour})
//
// A [Reaper] closes connections that are too old or idle for too long: those left behind by crashed
// processes, frozen functions and CI jobs. A Policy says which connections it may close and which
// it must spare. In a fleet, only one reaper works at a time:
//
//	r, err := serverside.NewReaper(rdb, serverside.Policy{
//		User:   "ci",
//		MaxAge: 2 * time.Hour,
//		Spare:  serverside.SpareNames("web-*"),
//	})
//	go r.Run(ctx, time.Minute)
//
// # What the server counts
//
// Servers report age and idle time in whole seconds, by their own clock, as the difference of two
// times without their fractions, so the values may be wrong by up to a second either way. This
// package takes them as they are: limits are whole seconds, and nothing is closed before the server
// reports that age.
//
// # Clusters
//
// CLIENT LIST and CLIENT KILL act on one node. On a ClusterClient or a Ring everything here is done
// for each node, masters and replicas, one after the other; a node that fails does not stop the
// others from being handled. A shard that a Ring itself considers down is skipped.
package serverside
