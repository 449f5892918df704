package monitor_test

import (
	"encoding/json"
	"expvar"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/internal/monitortest"
)

func TestDebugVarsShowTheMonitor(t *testing.T) {
	srv := redistest.Start(t)
	rdb := redis.NewClient(srv.Options())
	defer func() { _ = rdb.Close() }()
	src := monitor.FromClient(rdb)
	rdb.AddHook(src.Hook())
	m := monitortest.New(t, src)
	name := fmt.Sprint("redis ", time.Now().UnixNano()) // it cannot be taken back
	expvar.Publish(name, m.Var())
	web := httptest.NewServer(http.DefaultServeMux) // where package expvar put itself
	defer web.Close()
	look := func() (s monitor.Stats) {
		t.Helper()
		resp, err := web.Client().Get(web.URL + "/debug/vars")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		var vars map[string]json.RawMessage
		if err := json.NewDecoder(resp.Body).Decode(&vars); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(vars[name], &s); err != nil {
			t.Fatalf("%v: %s", err, vars[name])
		}
		return s
	}
	if s := look(); s.Open != 0 || s.Command.Count != 0 || s.Nodes[0].Name != srv.Addr() {
		t.Errorf("%+v", s)
	}
	hold(t, rdb, 3)
	if s := look(); s.Open != srv.NumClients(t) || s.InUse != 3 || s.Command.Count != 3 || s.Command.P99 == 0 || s.Known("retries") || !s.Known("command") {
		t.Errorf("the server says %d: %+v", srv.NumClients(t), s)
	}
}
