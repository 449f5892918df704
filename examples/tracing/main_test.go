package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

func TestMain(m *testing.M) { redistest.MainWithoutLeaks(m) }

func TestEveryCallIsOneSpanOfItsRequest(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), nil, &out))
	var calls []string
	for line := range strings.Lines(out.String()) {
		name, parent, _ := strings.Cut(strings.TrimSpace(line), " in ")
		if name = strings.TrimSpace(name); parent == "GET /cart" && !strings.HasPrefix(name, "redis.dial") {
			calls = append(calls, name)
		}
	}
	require.Equal(t, []string{"set", "redis.pipeline get incr", "get"}, calls, out.String())
	require.NotContains(t, out.String(), "ping", "maintenance has no spans")
}
