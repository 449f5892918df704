package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/examples/internal/extest"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

func TestMain(m *testing.M) { redistest.MainWithoutLeaks(m) }

func TestTheDifferenceIsTwoLines(t *testing.T) {
	require.Equal(t, []string{
		`+	"github.com/lifeguard-redis/lifeguard/managed"`,
		`-	rdb := redis.NewClient(&redis.Options{Addr: addr, PoolSize: 10})`,
		`+	rdb := managed.NewClient(&redis.Options{Addr: addr, PoolSize: 10})`,
	}, diff(textBefore, textAfter), "one line is new, one is changed")
}

func TestDiffSeesEveryLine(t *testing.T) {
	require.Empty(t, diff("a\nb", "a\nb"))
	require.Equal(t, []string{"-b", "+c"}, diff("a\nb", "a\nc"))
	require.Equal(t, []string{"+b"}, diff("a\nc", "a\nb\nc"))
	require.Equal(t, []string{"-b"}, diff("a\nb", "a"))
}

const want = `ann: <nil>
bob: <nil>
ann: <nil>
cem: sold out
best customer: ann with 2
`

func TestBothDoTheSameOnTheEmbeddedServerAndOnARealOne(t *testing.T) {
	for name, args := range map[string][]string{
		"embedded": nil,
		"real":     {"-addr", redistest.Start(t).Addr()},
	} {
		t.Run(name, func(t *testing.T) {
			p := extest.Start(t, run, args...)
			require.NoError(t, p.Wait())
			require.Equal(t, 2, strings.Count(p.Output(), want), p.Output())
		})
	}
}
