package dashboard_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/dashboard"
	"github.com/lifeguard-redis/lifeguard/monitor/internal/monitortest"
)

// pass lets time pass, in a bubble.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestWithoutViewersThereAreTheSamplesOfTheMonitorOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &source{}
		h := newPage(t, src)
		const perHour = int(time.Hour / monitor.DefaultInterval)
		pass(time.Hour)
		require.InDelta(t, perHour, src.Samples(), 1)

		v := look(h, "")
		pass(3500 * time.Millisecond)
		require.GreaterOrEqual(t, len(v.events("point")), 4)
		v.leave()
		<-v.gone
		before := src.Samples()
		pass(time.Hour)
		require.InDelta(t, before+perHour, src.Samples(), 1, "the loop went on without viewers")

		v = look(h, "")
		pass(time.Second)
		require.NotEmpty(t, v.events("point"), "the loop did not begin again")
		v.leave()
		<-v.gone
	})
}

func TestAllViewersShareOneLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &source{}
		h := newPage(t, src)
		var all []*viewer
		for range 20 {
			all = append(all, look(h, ""))
		}
		synctest.Wait()
		before := src.Samples()
		pass(10 * time.Second)
		// One sample a point, one for the advice every five seconds.
		require.LessOrEqual(t, src.Samples()-before, 13)
		for _, v := range all {
			require.GreaterOrEqual(t, len(v.events("point")), 10)
			v.leave()
			<-v.gone
		}
	})
}

func TestASilentStreamHasAHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPage(t, &source{}, dashboard.WithInterval(time.Minute))
		v := look(h, "")
		pass(50 * time.Second)
		require.Equal(t, 3, strings.Count(v.text(), ": alive\n\n"))
		v.leave()
		<-v.gone
	})
}

func TestCloseEndsAllStreamsAndRefusesNewOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPage(t, &source{})
		a, b := look(h, ""), look(h, "&want=conns")
		pass(time.Second)
		h.Close()
		<-a.gone
		<-b.gone
		h.Close()
		c := look(h, "")
		<-c.gone
		require.Equal(t, http.StatusServiceUnavailable, c.status())
		require.Equal(t, http.StatusOK, get(h, "/").Code, "the page itself goes on")
	})
}

func TestATableIsMadeOnlyForThoseWhoWantIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		src := &source{conns: func() []monitor.Connection {
			asked++
			return []monitor.Connection{{ID: 7, Node: "a:1", Pool: "main", State: "busy", Command: "get", Age: time.Minute, Idle: 3 * time.Millisecond},
				{ID: 8, Node: "a:1", Pool: "main", State: "idle"}}
		}}
		h := newPage(t, src)
		charts := look(h, "")
		pass(5 * time.Second)
		require.Zero(t, asked)

		conns, busy := look(h, "&want=conns"), look(h, "&want=busy,leases")
		pass(2500 * time.Millisecond)
		require.Positive(t, asked)
		require.Empty(t, charts.events("conns"))
		require.Empty(t, busy.events("conns"))
		require.NotEmpty(t, busy.events("leases"))
		require.JSONEq(t, `{"known":true,"rows":[[7,0,"",1,2,3,60000,3,0,0,4,0],[8,0,"",1,5,4,0,0,0,0,4,0]],
			"words":["a:1","main","busy","get","","idle"],"failed":""}`, conns.events("conns")[0])
		require.JSONEq(t, `{"known":true,"rows":[[7,0,"",1,2,3,60000,3,0,0,4,0]],"words":["a:1","main","busy","get",""],"failed":""}`, busy.events("busy")[0])

		conns.leave()
		busy.leave()
		<-conns.gone
		<-busy.gone
		before := asked
		pass(5 * time.Second)
		require.Equal(t, before, asked)
		charts.leave()
		<-charts.gone
	})
}

func TestTablesComeOnceASecondAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPage(t, &source{}, dashboard.WithInterval(100*time.Millisecond))
		v := look(h, "&want=leases")
		pass(10 * time.Second)
		require.InDelta(t, 100, len(v.events("point")), 2)
		require.InDelta(t, 10, len(v.events("leases")), 2)
		v.leave()
		<-v.gone
	})
}

func TestATableComesAtOnceForAViewerThatComesLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPage(t, &source{}, dashboard.WithInterval(30*time.Second))
		first := look(h, "")
		pass(10 * time.Second)
		second := look(h, "&want=leases")
		pass(200 * time.Millisecond)
		require.Len(t, second.events("leases"), 1)
		require.Len(t, second.events("point"), 0)
		for _, v := range []*viewer{first, second} {
			v.leave()
			<-v.gone
		}
	})
}

func TestWhoComesLaterGetsThePastAndWhoComesAgainOnlyWhatWasMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPage(t, &source{})
		first := look(h, "")
		pass(20 * time.Second) // so far, one point a second
		past := func(v *viewer) (at []float64) {
			synctest.Wait()
			var hello struct{ Past [][]any }
			require.NoError(t, json.Unmarshal([]byte(v.events("hello")[0]), &hello))
			for _, p := range hello.Past {
				at = append(at, p[0].(float64))
			}
			v.leave()
			<-v.gone
			return at
		}
		all := past(look(h, ""))
		require.InDelta(t, 20, len(all), 2)
		require.IsIncreasing(t, all)
		since := fmt.Sprint(int64(all[10]))
		require.Equal(t, all[11:], past(look(h, "&since="+since)))
		require.Equal(t, all[11:], past(look(h, "&since=0", "Last-Event-ID", since)))

		pass(time.Hour) // more than is kept
		require.InDelta(t, 900, len(past(look(h, ""))), 2)
		first.leave()
		<-first.gone
	})
}

func TestWhoLooksLaterSeesWhatHappenedWhileNobodyLooked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &source{}
		var n monitor.Numbers
		set := func(dialError string) {
			src.Set(func(s *monitor.Sample) {
				s.Nodes = []monitor.Node{{Name: "a:1", Numbers: n}}
				if dialError != "" {
					s.LastDialError = &monitor.DialError{Time: time.Now(), Node: "a:1", Err: dialError}
				}
			})
		}
		n.Main = monitor.Pool{Size: 10, Open: 10, Idle: 10}
		n.Closed = map[string]uint64{"error": 2, "age": 1} // from before
		set("")
		h := newPage(t, src)
		pass(time.Hour)
		n.Main.InUse, n.Main.Idle, n.Hits = 10, 0, 1
		n.Closed = map[string]uint64{"error": 7, "age": 3, "readonly": 1}
		n.UnknownOutcomes, n.BreakerOpened = 1, 1
		set("connection refused")
		pass(5 * time.Minute)
		n.BreakerOpened++ // once more, as it was probed in vain
		set("connection refused")
		pass(monitor.DefaultInterval)
		n.Main.InUse, n.Main.Idle, n.BreakerClosed = 0, 10, 1
		set("")
		pass(5 * time.Minute)
		src.Set(func(*monitor.Sample) { panic("broken") })
		pass(monitor.DefaultInterval)
		set("")

		v := look(h, "")
		pass(time.Second)
		var hello struct {
			Names []string
			Past  [][2]any
			Marks []struct {
				T          int64
				Kind, Text string
			}
		}
		require.NoError(t, json.Unmarshal([]byte(v.events("hello")[0]), &hello))
		use := slices.Index(hello.Names, "use")
		var uses []any
		for _, p := range hello.Past {
			uses = append(uses, p[1].([]any)[use])
		}
		require.InDelta(t, int(15*time.Minute/monitor.DefaultInterval), len(uses), 1, "the last quarter of an hour, a point a period")
		require.EqualValues(t, 0, uses[0])
		require.InDelta(t, 1+int(5*time.Minute/monitor.DefaultInterval), strings.Count(fmt.Sprint(uses), "100"), 1)
		require.Nil(t, uses[len(uses)-1], "what is not known is a gap")
		var texts []string
		for i, m := range hello.Marks {
			texts = append(texts, m.Kind+": "+m.Text)
			require.Positive(t, m.T)
			require.True(t, i == 0 || m.T >= hello.Marks[i-1].T)
		}
		require.Equal(t, []string{"bad: Cannot connect to a:1", "bad: Circuit breaker opened", "note: 5 connections closed: error",
			"note: 1 connection closed: failover, its server became a replica", "bad: 1 command with an unknown outcome", "good: Connected again to a:1", "good: Circuit breaker closed"}, texts)

		// Viewers get it at once, and only once.
		n.Closed = map[string]uint64{"error": 7, "age": 9, "readonly": 1, "reset": 3}
		set("")
		pass(2 * time.Minute)
		require.Len(t, v.events("marks"), 1)
		require.Contains(t, v.events("marks")[0], "3 connections closed: Reset or EvictIdle")
		v.leave()
		<-v.gone
	})
}

func TestTheHistoryTakesNoMoreThanTheDocumentationSays(t *testing.T) {
	require.LessOrEqual(t, dashboard.HistoryBytes, 120<<10)
	require.Greater(t, dashboard.HistoryBytes, 90<<10)
}

func TestAlertsLinkToSectionsOfTheRunbook(t *testing.T) {
	text, err := os.ReadFile("../../docs/RUNBOOK.md")
	require.NoError(t, err)
	var there []string
	for line := range strings.Lines(string(text)) {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			there = append(there, strings.ReplaceAll(strings.ToLower(strings.TrimSpace(title)), " ", "-"))
		}
	}
	require.Subset(t, there, dashboard.RunbookSections())
}

func TestViewersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPage(t, &source{})
		var all []*viewer
		for range 100 {
			all = append(all, look(h, ""))
		}
		synctest.Wait()
		v := look(h, "")
		<-v.gone
		require.Equal(t, http.StatusServiceUnavailable, v.status())
		require.NotEmpty(t, v.head.Get("Retry-After"))
		for _, v := range all {
			v.leave()
			<-v.gone
		}
	})
}

func TestRatesAreOfTheTimeBetweenTwoPoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &source{}
		var rec monitor.Recorder
		n := uint64(0)
		src.Set(func(s *monitor.Sample) {
			for range 10 {
				rec.Command.Record(2 * time.Millisecond)
			}
			n += 4
			one := monitor.Numbers{Main: monitor.Pool{Size: 10, Open: 6, Idle: 2, InUse: 4}, Dialed: n}
			rec.Fill(&one)
			s.Nodes = []monitor.Node{{Name: "a:1", Numbers: one}, {Name: `b"1`, Numbers: monitor.Numbers{Main: monitor.Pool{Size: 5, Open: 1, InUse: 1}}}}
		})
		h := newPage(t, src, dashboard.WithInterval(2*time.Second))
		v := look(h, "")
		pass(2500 * time.Millisecond)
		p := v.point(t, "a:1")
		require.EqualValues(t, 4, p["inUse"])
		require.EqualValues(t, 10, p["mainSize"])
		require.Nil(t, p["pipeSize"], "there is no such pool")
		require.EqualValues(t, 40, p["use"])
		require.InDelta(t, 2, p["commandP99"], 0.2)
		require.Nil(t, p["waitP99"], "nobody has waited: there is no such number")
		require.Positive(t, p["commands"])
		require.Positive(t, p["dialed"])
		all := v.point(t, "")
		require.EqualValues(t, 5, all["inUse"])
		require.EqualValues(t, 40, all["use"], "that of the fullest pool, and not of both together")
		require.EqualValues(t, 1, v.point(t, `b"1`)["inUse"])
		v.leave()
		<-v.gone
	})
}

func TestCallsThatAnOpenBreakerRefusesAreNoCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &source{}
		var rec monitor.Recorder
		refused := uint64(0)
		src.Set(func(s *monitor.Sample) {
			for range 10 {
				rec.Command.Record(time.Microsecond)
			}
			refused += 10
			n := monitor.Numbers{Main: monitor.Pool{Size: 10}, BreakerRefusals: refused}
			rec.Fill(&n)
			s.Nodes = []monitor.Node{{Name: "a:1", Numbers: n}}
		})
		h := newPage(t, src, dashboard.WithInterval(time.Second))
		v := look(h, "")
		pass(2500 * time.Millisecond)
		p := v.point(t, "a:1")
		require.Zero(t, p["commands"])
		require.Positive(t, p["refused"])
		require.Nil(t, p["commandP99"], "a refusal is fast, and says nothing of the server")
		v.leave()
		<-v.gone
	})
}

func TestWhatIsNotKnownIsNotShownAsZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &monitortest.Source{}
		src.Set(func(s *monitor.Sample) {
			s.Nodes = []monitor.Node{{Name: "a:1", Numbers: monitor.Numbers{Main: monitor.Pool{Open: 3, InUse: 1, Idle: 2}}}}
			s.Gap("x", "retries", "leases", "nodes.command", "leaks")
		})
		v := look(newPage(t, src), "&want=leases,conns,busy")
		pass(2500 * time.Millisecond)
		all, node := v.point(t, ""), v.point(t, "a:1")
		for _, name := range []string{"retries", "leases", "leaks", "use"} {
			require.Nil(t, all[name], name)
			require.Nil(t, node[name], name)
		}
		require.EqualValues(t, 0, all["commands"])
		require.Nil(t, node["commands"])
		require.EqualValues(t, 1, all["inUse"])
		for _, table := range []string{"leases", "conns", "busy"} {
			require.JSONEq(t, `{"known":false,"rows":[],"words":[],"failed":""}`, v.events(table)[0])
		}
		var s struct {
			Retries map[string]int
			Closed  map[string]int
			Counts  map[string]int
			Gaps    []string
		}
		require.NoError(t, json.Unmarshal([]byte(v.events("summary")[0]), &s))
		require.Nil(t, s.Retries)
		require.NotContains(t, s.Counts, "leaks")
		require.Contains(t, s.Counts, "hits")
		require.Equal(t, []string{"x"}, s.Gaps)
		v.leave()
		<-v.gone
	})
}

func TestASourceThatPanicsHarmsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &source{conns: func() []monitor.Connection { panic("conns broken") }, leases: func() []monitor.Lease { panic("leases broken") }}
		src.Set(func(*monitor.Sample) { panic("sample broken") })
		h := newPage(t, src)
		v := look(h, "&want=leases,conns,busy")
		pass(1500 * time.Millisecond)
		require.Nil(t, v.point(t, "")["open"])
		require.Contains(t, v.events("conns")[0], "conns broken")
		require.Contains(t, v.events("leases")[0], `"known":false`)
		var snap dashboard.Snapshot
		require.NoError(t, json.Unmarshal(get(h, "/?get=snapshot.json").Body.Bytes(), &snap))
		require.Nil(t, snap.Connections)
		require.Len(t, snap.Gaps, 2)
		v.leave()
		<-v.gone
	})
}

func TestAlertsComeAndAreOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &source{}
		use := func(n int) {
			src.Set(func(s *monitor.Sample) {
				s.Nodes = []monitor.Node{{Name: "a:1", Numbers: monitor.Numbers{Main: monitor.Pool{Size: 10, Open: 10, Idle: 10 - n, InUse: n}}}}
				s.AddHolder(monitor.Holder{Site: "web.go:31", Label: "report", For: time.Minute})
			})
		}
		use(9)
		m, err := monitor.New(src, monitor.WithInterval(time.Second), monitor.WithoutDefaults(), monitor.WithAlertHandler(func(monitor.Alert) {}),
			monitor.Threshold{Metric: monitor.PoolUse, Limit: 0.8})
		require.NoError(t, err)
		defer m.Close()
		h, err := dashboard.New(m)
		require.NoError(t, err)
		defer h.Close()
		v := look(h, "")
		latest := func() (s struct {
			Watching     bool
			Alerts, Over []struct {
				Name, Title, Level, Text, Runbook string
				Holders                           []string
				End                               int64
			}
		}) {
			all := v.events("summary")
			require.NoError(t, json.Unmarshal([]byte(all[len(all)-1]), &s))
			return s
		}
		pass(3500 * time.Millisecond)
		s := latest()
		require.True(t, s.Watching)
		require.Len(t, s.Alerts, 1)
		require.Equal(t, "warning", s.Alerts[0].Level)
		require.Equal(t, "Pool nearly full", s.Alerts[0].Title)
		require.Equal(t, "main pool use is 90 %, limit 80 %", s.Alerts[0].Text)
		require.Contains(t, s.Alerts[0].Runbook, "RUNBOOK.md#callers-get-no-connection")
		require.Equal(t, []string{"web.go:31 (report) for 1m0s"}, s.Alerts[0].Holders)
		use(1)
		pass(3 * time.Second)
		s = latest()
		require.Empty(t, s.Alerts)
		require.Len(t, s.Over, 1)
		require.Positive(t, s.Over[0].End)
		v.leave()
		<-v.gone

		v = look(h, "") // it is remembered
		pass(time.Second)
		require.Len(t, latest().Over, 1)
		v.leave()
		<-v.gone
	})
}

// unflushable is what a careless middleware gives.
type unflushable struct{ http.ResponseWriter }

func TestAMiddlewareThatKeepsFromStreamingIsSaid(t *testing.T) {
	h := newPage(t, &source{})
	w := httptest.NewRecorder()
	wrapped := struct{ http.ResponseWriter }{unflushable{w}}
	h.ServeHTTP(wrapped, httptest.NewRequest(http.MethodGet, "/?get=stream", nil))
	require.Equal(t, http.StatusInternalServerError, w.Code)
	require.Contains(t, w.Body.String(), "middleware")
}

func TestAStreamOverHTTPEndsWhenTheViewerLeavesAndOutlivesTheServersTimeout(t *testing.T) {
	src := &source{}
	h := newPage(t, src, dashboard.WithInterval(100*time.Millisecond))
	server := httptest.NewUnstartedServer(h)
	server.Config.WriteTimeout = 300 * time.Millisecond
	server.Start()
	defer server.Close()
	client := server.Client()
	resp, err := client.Get(server.URL + "/?get=stream")
	require.NoError(t, err)
	require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
	buf := make([]byte, 1<<16)
	for began := time.Now(); time.Since(began) < time.Second; {
		_, err := resp.Body.Read(buf)
		require.NoError(t, err)
	}
	require.NoError(t, resp.Body.Close())
	require.Eventually(t, func() bool { // no viewer: the samples of the Monitor only
		n := src.Samples()
		time.Sleep(250 * time.Millisecond)
		return src.Samples() == n
	}, 10*time.Second, 10*time.Millisecond)

	resp, err = client.Get(server.URL + "/?get=stream")
	require.NoError(t, err)
	defer resp.Body.Close()
	h.Close() // as RegisterOnShutdown does
	_, err = resp.Body.Read(buf)
	for err == nil {
		_, err = resp.Body.Read(buf)
	}
	require.Equal(t, "EOF", errors.Unwrap(fmt.Errorf("%w", err)).Error())
}
