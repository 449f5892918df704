// Package monitor shows what happens in the connection pools of go-redis: current numbers,
// callbacks, alerts, and advice about the size of a pool. It works on a plain client:
//
//	src := monitor.FromClient(rdb)
//	m, err := monitor.New(src)
//	if err != nil {
//		return err
//	}
//	defer m.Close()
//	m.OnAlert(func(a monitor.Alert) { slog.Warn(a.String()) })
//
// A managed client has its own Monitor, which knows more: see [Source].
//
// While commands run, [Histogram] and [Peak] count with atomic operations, without a lock and
// without an allocation. Everything else is done when somebody asks: when [Monitor.Stats] is
// called, or every period once there is somebody to report to.
//
// # Numbers that go-redis reports wrongly
//
// PoolStats().IdleConns may underflow for a moment; it is corrected. StaleConns counts every
// removal, for whatever reason; here these are reported as closed with the reason "removed".
// Unusable is never counted; it is left out. WaitCount and WaitDurationNs count only waits that
// succeeded; those that ended in a pool timeout are added. All are 32 bits wide and wrap around;
// here they do not. What a plain client does not report is listed in [Stats].Gaps, instead of being
// shown as a meaningless zero.
package monitor
