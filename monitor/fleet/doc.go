// Package fleet makes one picture of all instances that use a Redis: each publishes
// the numbers of its pools there, and anyone can read every instance and the sums:
// how many connections there are in total, how many of them are active and idle,
// and how many were disconnected.
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
// An instance is a hash, which expires, and a member of a sorted set, the index. All
// keys of a fleet begin with "lifeguard:{fleet:NAME}:", so they are in one slot. An
// instance writes both in one transaction and one round trip per period, a period
// being 10 % longer or shorter each time, so that a fleet does not write all at
// once. Everything it writes may be repeated. The index says when it was begun and for
// how long an instance may be silent, so that its loss does not go unnoticed; it has
// at most [MaxInstances] entries.
//
// 300 instances that publish every 10 s took 0.3 % of one core, their own processors' time
// and the server's together, and 1.4 KB of its memory each, with ten connections each
// (BenchmarkPublish); an instance on a cluster publishes each node, and takes more.
//
// # Who is alive
//
// How long ago an instance wrote is told by the time to live that its hash has left:
// by the server's clock alone. The clocks of hosts may be as wrong as they like. An
// instance that has said nothing for [WithLostAfter] is lost: [Read] lists it with its
// last numbers until [WithRetention] is over, and counts it apart from those that live.
// [Publisher.Close] removes an instance at once.
//
// Who is not there may have been lost, by FLUSHALL, an eviction or a failover: Gaps say
// when instances may be missing, and a [Spare] spares everybody then.
//
// # Alerts
//
// A [Source] makes a fleet something that a monitor.Monitor can watch, with its
// thresholds, callbacks and exporters:
//
//	src, err := fleet.NewSource(rdb)
//	m, err := monitor.New(src, monitor.WithoutDefaults(),
//		monitor.Threshold{Metric: monitor.MaxClients, Limit: 0.8})
//	m.OnAlert(func(a monitor.Alert) { slog.Warn(a.String()) })
//
// # Rights
//
// Publishing needs HGET, HSET, PEXPIRE, ZADD, ZSCORE, ZREMRANGEBYSCORE and
// ZREMRANGEBYRANK, and DEL and ZREM for Close; MULTI and EXEC, without which it takes two
// round trips; PTTL and PEXPIRETIME or TIME, without which the index is not pruned by this instance;
// CLIENT INFO, without which a [Spare] cannot tell its connections by their
// addresses; and INFO, without which one server may be seen as several. Reading needs
// ZRANGE, HGETALL and PTTL, and PEXPIRETIME or TIME. It works from Redis 6.2 on.
package fleet
