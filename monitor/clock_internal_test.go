package monitor

import (
	"testing"
	"time"
)

// A wall clock cannot be set in a test, so this gives the times.
func TestAClockThatIsSetBackNeitherDelaysAnAlertNorMakesItsDurationNegative(t *testing.T) {
	th := Threshold{Name: "full", Metric: PoolUse, Limit: 0.9, Level: Critical, For: 2 * time.Second, Samples: 1, CoolDown: 10 * time.Second}
	w := newWatcher([]Threshold{th}, func(string, *Numbers, *Numbers, []Holder) string { return "" })
	now := time.Unix(1_000_000, 0)
	look := func(after time.Duration, inUse int) []Alert {
		now = now.Add(after)
		return w.check(&Stats{Time: now, Interval: time.Second, Numbers: Numbers{Main: Pool{Size: 10, Open: 10, InUse: inUse}}})
	}
	const hour = time.Hour
	if got := look(0, 10); len(got) != 0 {
		t.Fatalf("at once: %v", got)
	}
	look(time.Second, 10)
	look(-hour, 10) // the clock is set back while the alert is pending
	look(time.Second, 10)
	got := look(time.Second, 10)
	if len(got) == 0 && len(w.active()) == 0 {
		t.Fatal("no alert after 2 s past the limit")
	}
	look(-hour, 10) // and while it is active
	if a := w.active()[0]; now.Before(a.Since) || now.Sub(a.Since) > 10*time.Second {
		t.Errorf("since %v, it is %v", a.Since, now)
	}
	over := look(time.Second, 1)
	if len(over) != 1 || over[0].Active || over[0].Time.Before(over[0].Since) {
		t.Fatalf("%+v", over)
	}
	look(-hour, 1) // and during the cool-down
	for range 15 {
		look(time.Second, 10)
	}
	if len(w.active()) != 1 {
		t.Error("the cool-down lasts longer than 10 s")
	}
}
