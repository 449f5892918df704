package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/examples/internal/extest"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

func TestMain(m *testing.M) { redistest.MainWithoutLeaks(m) }

func TestItStartsAClusterAndShowsAllSteps(t *testing.T) {
	p := extest.Start(t, run, "-redis-server", redistest.Binary(t, "redis-server"))
	require.NoError(t, p.Wait())
	t.Log("\n" + p.Output())
	for _, want := range []string{
		"A cluster of three nodes", "0 of 6000 reads failed", "savings 70, account 30", `as "transfer"`,
		"4. All connections cut ", ": 0 of ",
	} {
		require.Contains(t, p.Output(), want)
	}
	require.Equal(t, 3, strings.Count(p.Find(`(?s)NODE.*4\.`), "127.0.0.1:"))
}

func TestItUsesAClusterOfYoursAndLeavesNothingBehind(t *testing.T) {
	c := redistest.StartCluster(t, "redis-server", 3, 0)
	p := extest.Start(t, run, "-addrs", strings.Join(c.Addrs(), ","), "-for", "500ms")
	require.NoError(t, p.Wait())
	require.Contains(t, p.Output(), "4. All connections cut ")
	for _, s := range c.Nodes() {
		require.Empty(t, s.Admin().Keys(t.Context(), "*").Val())
	}
}

func TestWithoutAServerOneEmbeddedNodeStandsForAClusterAndThatIsSaid(t *testing.T) {
	p := extest.Start(t, run, "-redis-server", "no-such-program")
	require.NoError(t, p.Wait())
	require.Contains(t, p.Output(), "no-such-program is not on PATH: one embedded node")
	require.Contains(t, p.Output(), "savings 70, account 30")
	require.NotContains(t, p.Output(), "\n4.")
}

func TestCtrlCEndsIt(t *testing.T) {
	p := extest.Start(t, run, "-redis-server", redistest.Binary(t, "redis-server"), "-for", "1h")
	p.Find(`NODE[^\n]*\n`)
	p.CtrlC()
	require.Error(t, p.Wait())
}
