package fleet_test

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/lifeguard-redis/lifeguard/monitor/fleet"
)

func FuzzAnEntryIsReadRightOrNotAtAll(f *testing.F) {
	f.Add("data", `{"every_ms":1000,"lost_ms":3000,"keep_ms":60000,"rest":{"total":3,"active":1,"idle":2}}`, int64(1000))
	f.Add("data", `{"every_ms":1000,"lost_ms":3000,"keep_ms":60000,"nodes":[{"name":"","total":1}]}`, int64(0))
	f.Add("data", `{"every_ms":1000,"lost_ms":3000,"keep_ms":60000,"nodes":[{"name":"a","max_clients":-1}],"addrs":{"::1":[1,2]}}`, int64(-5))
	f.Add("data", `null`, int64(math.MaxInt64))
	f.Add("data", `{"every_ms":9223372036854775807}`, int64(1))
	f.Add("total", "4", int64(1))
	f.Add("none", "", int64(1))
	f.Add("v", "1e3", int64(1))
	f.Fuzz(func(t *testing.T, field, value string, left int64) {
		h := fleet.Written(fleet.Instance{Service: "web", Host: "h", PID: 7, Started: time.UnixMilli(5), Every: time.Second, LostAfter: 3 * time.Second,
			Numbers: fleet.Numbers{Total: 3, Active: 1, Idle: 2}, Nodes: []fleet.Node{{Name: "a:1", Numbers: fleet.Numbers{Total: 3, Active: 1, Idle: 2}}},
			Addrs: []string{"10.0.0.7:51234", "[::1]:9"}})
		if field == "none" {
			_, err := fleet.Parse("x", h, time.Duration(left))
			assert.NoError(t, err)
			return
		}
		h[field] = value
		i, err := fleet.Parse("x", h, time.Duration(left))
		if err != nil {
			return
		}
		if i.Age < 0 || i.Lost != (i.Age > i.LostAfter) || i.LostAfter <= 0 {
			t.Fatalf("age %v, lost %v after %v", i.Age, i.Lost, i.LostAfter)
		}
		for _, n := range append([]fleet.Node{{Name: "all", Numbers: i.Numbers}}, i.Nodes...) {
			if n.Name == "" || min(n.Total, n.Active, n.Idle, n.Waiting, n.Size, n.Subscribed, n.Leases, n.MaxClients) < 0 {
				t.Fatalf("%+v", n)
			}
		}
		_, err = json.Marshal(i)
		assert.NoError(t, err)
	})
}
