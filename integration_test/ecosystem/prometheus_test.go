package ecosystem_test

import (
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/extra/redisprometheus/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

func TestRedisprometheusCollectsTheSameNumbers(t *testing.T) {
	s := redistest.Start(t)
	var got [][]string
	for _, who := range sides() {
		noGoroutineLeft(t, func() {
			rdb := who.open(t, s)
			defer rdb.Close()
			for range 5 {
				if err := rdb.Set(t.Context(), "key", "value", 0).Err(); err != nil {
					t.Fatal(err)
				}
			}
			reg := prometheus.NewRegistry()
			if err := reg.Register(redisprometheus.NewCollector("app", "redis", rdb)); err != nil {
				t.Fatal(err)
			}
			families, err := reg.Gather()
			if err != nil {
				t.Fatal(err)
			}
			var lines []string
			for _, f := range families {
				lines = append(lines, f.String())
			}
			got = append(got, lines)
		})
	}
	if len(got[0]) == 0 || !slices.Equal(got[0], got[1]) {
		t.Errorf("bare:    %q\nmanaged: %q", got[0], got[1])
	}
}
