package conntrack_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

func TestDialsWaitUntilTheirNodeIsSetUp(t *testing.T) {
	s := redistest.Start(t)
	r := newRig(t, s.Options(), conntrack.Config{})
	setup := make(chan struct{})
	r.node.DialAfter(setup)
	pinged := make(chan error, 1)
	go func() { pinged <- r.Ping(bg).Err() }()
	redistest.Eventually(t, "it dials", soon, func() bool { return r.node.Dialing() == 1 })
	require.Empty(t, r.conns())
	close(setup)
	require.NoError(t, <-pinged)

	short := s.Options()
	short.DialTimeout, short.DialerRetries = 10*time.Millisecond, 1
	never := newRig(t, short, conntrack.Config{})
	never.node.DialAfter(make(chan struct{}))
	require.ErrorContains(t, never.Ping(bg).Err(), "dial")
}

func TestProbesAreQuickAtFirstAndAtMostOneASecondInALongOutage(t *testing.T) {
	for _, x := range []struct{ outage, least, most time.Duration }{
		{0, 3 * time.Millisecond, 7 * time.Millisecond},
		{400 * time.Millisecond, 3 * time.Millisecond, 7 * time.Millisecond},
		{2 * time.Second, 15 * time.Millisecond, 25 * time.Millisecond},
		{30 * time.Second, 225 * time.Millisecond, 375 * time.Millisecond},
		{2 * time.Minute, time.Second, 1250 * time.Millisecond},
		{time.Hour, time.Second, 1250 * time.Millisecond},
	} {
		first := conntrack.ProbePause(x.outage, 0)
		last := conntrack.ProbePause(x.outage, 1)
		require.GreaterOrEqual(t, first, x.least, x.outage)
		require.LessOrEqual(t, last, x.most, x.outage)
		require.Greater(t, last, first, "jitter")
	}
}
