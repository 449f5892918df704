package monitor_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/internal/monitortest"
)

func TestFieldsAreThoseOfNumbersInJSON(t *testing.T) {
	b, err := json.Marshal(monitor.Numbers{})
	if err != nil {
		t.Fatal(err)
	}
	var in map[string]json.RawMessage
	if err := json.Unmarshal(b, &in); err != nil {
		t.Fatal(err)
	}
	for _, f := range monitor.Fields() {
		if _, ok := in[f]; !ok {
			t.Errorf("%q is not in %s", f, b)
		}
		delete(in, f)
	}
	if len(in) != 0 {
		t.Errorf("no fields: %v", in)
	}
}

func TestAFieldOfAGapIsNotKnown(t *testing.T) {
	src := &monitortest.Source{}
	src.Set(func(s *monitor.Sample) {
		s.Rest.Command = monitor.Distribution{}
		s.Gap("x", "leaks", "nodes.command")
		s.Gap("x", "leaks", "typo")
	})
	s := monitortest.New(t, src).Stats()
	for field, want := range map[string]bool{"leaks": false, "nodes.leaks": false, "command": true, "nodes.command": false, "hits": true, "nodes.hits": true} {
		if s.Known(field) != want {
			t.Errorf("%s: known %v", field, !want)
		}
	}
	if got := strings.Join(s.Gaps, "|"); got != `x|there is no field "typo"` || len(s.Unknown) != 2 {
		t.Errorf("%s, %v", got, s.Unknown)
	}
}

func TestASourceThatPanicsHasNoGauges(t *testing.T) {
	src := &monitortest.Source{}
	src.Set(func(*monitor.Sample) { panic("broken") })
	s := monitortest.New(t, src).Stats()
	if s.Known("open") || s.Known("server_clients") || !s.Known("hits") || !s.Known("command") {
		t.Errorf("%v", s.Unknown)
	}
}

func TestAPlainClientSaysWhatItDoesNotKnow(t *testing.T) {
	rdb := redis.NewClient(redistest.Options(t))
	defer func() { _ = rdb.Close() }()
	src := monitor.FromClient(rdb)
	m := monitortest.New(t, src)
	if s := m.Stats(); s.Known("command") || s.Known("retries") || s.Known("leaks") || !s.Known("hits") || !s.Known("open") || !s.Known("closed") {
		t.Errorf("without the hook: %v", s.Unknown)
	}
	rdb.AddHook(src.Hook())
	if s := m.Stats(); !s.Known("command") || !s.Known("dial_errors") || !s.Known("peak_in_use") || s.Known("wait") || s.Known("retries") {
		t.Errorf("with the hook: %v", s.Unknown)
	}
	c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}, DialerRetries: 1})
	defer func() { _ = c.Close() }()
	if s := monitortest.New(t, monitor.FromClient(c)).Stats(); !slices.Equal(s.Unknown[:3], monitor.Fields()[:3]) || s.Known("open") {
		t.Errorf("a cluster that cannot be reached: %v", s.Unknown)
	}
}

func TestRestIsWhatBelongsToNoNode(t *testing.T) {
	src := &monitortest.Source{}
	src.Set(func(s *monitor.Sample) {
		s.Rest.Retries = map[string]uint64{"timeout": 3}
		s.Nodes = []monitor.Node{{Name: "a:1", Numbers: monitor.Numbers{Retries: map[string]uint64{"timeout": 4}, Hits: 5}}}
	})
	s := monitortest.New(t, src).Stats()
	if s.Rest.Retries["timeout"] != 3 || s.Retries["timeout"] != 7 || s.Rest.Hits != 0 || s.Hits != 5 {
		t.Errorf("rest %+v, all %+v", s.Rest, s.Numbers)
	}
}
