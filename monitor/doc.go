// Package monitor shows what is going on in the connection pools of go-redis:
// numbers to look at, callbacks for them, alerts, and advice about the size of a
// pool. It works on a plain client:
//
//	src := monitor.FromClient(rdb)
//	m, err := monitor.New(src)
//	if err != nil {
//		return err
//	}
//	defer m.Close()
//	m.OnAlert(func(a monitor.Alert) { slog.Warn(a.String()) })
//
// A managed client brings its own Monitor, which knows more: see [Source].
//
// Counting, where the commands run, is done with [Histogram] and [Peak]: atomic
// operations, no lock, no allocation. Everything else happens when somebody looks:
// when [Monitor.Stats] is called, or at every period once there is somebody to
// tell.
//
// # Numbers that go-redis reports wrongly
//
// PoolStats().IdleConns may underflow for a moment; it is corrected. StaleConns
// counts every removal, for whatever reason; here it is called that. Unusable is
// never counted; it is left out. WaitCount and WaitDurationNs count only waits that
// succeeded; those that ended in a pool timeout are added. All are 32 bits wide and
// wrap around; here they do not. What a plain client cannot tell is listed in
// [Stats].Gaps, and is not shown as a zero that means nothing.
package monitor
