package dashboard

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/monitor"
)

// A wall clock cannot be set in a test, so these give the times.

// times are those of the points that a viewer gets.
func times(t *testing.T, h *history, since int64) (all []int64) {
	t.Helper()
	var points [][]any
	require.NoError(t, json.Unmarshal(h.appendTo(nil, since), &points))
	for _, p := range points {
		all = append(all, int64(p[0].(float64)))
	}
	return all
}

func TestAClockThatIsSetBackDoesNotStopTheHistory(t *testing.T) {
	h := newHistory(time.Second)
	for i := range int64(10) {
		h.add(&point{at: 1_000_000_000 + i*1000})
	}
	const before = 1_000_009_000
	h.add(&point{at: before - 3_600_000}) // an hour
	h.add(&point{at: before - 3_600_000 + 1000})
	all := times(t, &h, 0)
	require.Len(t, all, 12, "nothing is lost")
	for i := 1; i < len(all); i++ {
		require.EqualValues(t, 1000, all[i]-all[i-1], "in their order, as far apart as they were")
	}
	require.EqualValues(t, before-3_600_000+1000, all[11])

	h.add(&point{at: all[11] - 300})
	require.Len(t, times(t, &h, 0), 12, "samples that overtake each other are no set clock")
}

func TestAViewerFromBeforeAClockWasSetBackGetsTheWholeHistory(t *testing.T) {
	h := &hub{viewers: map[*viewer]struct{}{}, past: newHistory(time.Second), joined: make(chan struct{}, 1), stop: func() {}}
	for i := range int64(5) {
		h.past.add(&point{at: 1_000_000_000 + i*1000})
	}
	points := func(since int64) (n int) {
		past, _, _, _ := h.join(&viewer{}, since)
		var all []any
		require.NoError(t, json.Unmarshal(past, &all))
		return len(all)
	}
	require.Equal(t, 5, points(1_000_004_000+3_600_000))
	require.Equal(t, 2, points(1_000_002_000))
	require.Zero(t, points(1_000_004_500), "it is a little ahead of the history")
}

func TestAClockThatIsSetBackDoesNotStopTheMarks(t *testing.T) {
	var m marker
	at := time.Unix(1_000_000, 0)
	stats := func(at time.Time, unknown uint64) *monitor.Stats {
		s := &monitor.Stats{Time: at}
		s.UnknownOutcomes = unknown
		return s
	}
	m.note(stats(at, 0))
	require.Len(t, m.note(stats(at.Add(time.Second), 1)), 1)
	require.Empty(t, m.note(stats(at, 2)), "somebody was faster")
	added := m.note(stats(at.Add(-time.Hour), 3))
	require.Len(t, added, 1)
	all := m.since(0)
	require.Len(t, all, 2)
	require.Less(t, all[0].At-1, all[1].At, "in their order")
	require.Equal(t, at.Add(-time.Hour).UnixMilli(), all[1].At)
}
