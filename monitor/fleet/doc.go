// Package fleet gives one picture of all instances that use a Redis: each instance publishes the
// numbers of its pools there, and anyone can read every instance and the totals: how many
// connections there are, how many of them are active and idle, and how many were closed.
//
//	p, err := fleet.Publish(m, rdb, fleet.WithService("web")) // m is a *monitor.Monitor
//	if err != nil {
//		return err
//	}
//	defer p.Close() // leaves the fleet
//
//	f, err := fleet.Read(ctx, rdb)
//	fmt.Println(f.Sum.Total, f.Sum.Active, f.Sum.Idle, f.Sum.Disconnected)
//
// It works on any go-redis client, clusters, rings and Valkey included.
//
// # In Redis
//
// An instance is a hash, which expires, and a member of a sorted set, the index. All keys of a
// fleet begin with "lifeguard:{fleet:NAME}:", so they are in one slot. An instance writes both in
// one transaction and one round trip per period. Each period is up to 10 % longer or shorter, so
// that the instances of a fleet do not all write at the same time. Everything an instance writes
// may be repeated. The index records when it was created and the longest time that an instance may
// go without publishing, so that a loss of the index is noticed; it has at most [MaxInstances]
// entries.
//
// 300 instances that publish every 10 s, with ten connections each, took 0.3 % of one core, the
// instances' and the server's CPU time together, and 1.4 KB of the server's memory each
// (BenchmarkPublish); an instance on a cluster publishes each node, and takes more.
//
// # Who is alive
//
// The remaining time to live of an instance's hash shows how long ago it published: only the
// server's clock is used, so the clocks of the hosts may be wrong. An instance that has not
// published for [WithLostAfter] is lost: [Read] lists it with its last numbers until
// [WithRetention] has passed, and counts it separately from the living ones. [Publisher.Close]
// removes an instance at once.
//
// An instance that is not listed may still exist: its entry can be lost by FLUSHALL, an eviction or
// a failover. Gaps say when instances may be missing, and a [Members] then spares everybody.
//
// # Alerts
//
// A [Source] makes a fleet a source for a monitor.Monitor, with its thresholds, callbacks and
// exporters:
//
//	src, err := fleet.NewSource(rdb)
//	m, err := monitor.New(src, monitor.WithoutDefaults(),
//		monitor.Threshold{Metric: monitor.MaxClients, Limit: 0.8})
//	m.OnAlert(func(a monitor.Alert) { slog.Warn(a.String()) })
//
// # Rights
//
// Publishing needs HGET, HSET, PEXPIRE, ZADD, ZSCORE, ZREMRANGEBYSCORE and ZREMRANGEBYRANK, and DEL
// and ZREM for Close; MULTI and EXEC, without which it takes two round trips; PTTL and PEXPIRETIME
// or TIME, without which this instance does not prune the index; CLIENT INFO, without which a
// [Members] cannot recognise this instance's connections by their addresses; and INFO, without which
// one server may appear as several. Reading needs ZRANGE, HGETALL and PTTL, and PEXPIRETIME or
// TIME. It works from Redis 6.2 on.
package fleet
