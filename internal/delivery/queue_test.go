package delivery_test

import (
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lifeguard-redis/lifeguard/internal/delivery"
)

func TestValuesAreDeliveredInOrderOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []int
		running := 0
		q := delivery.Queue[int]{Limit: 100, Call: func(v int) {
			if running++; running != 1 {
				t.Error("two calls overlap")
			}
			time.Sleep(time.Millisecond)
			running--
			got = append(got, v)
		}}
		var want []int
		for i := range 50 {
			q.Put(i)
			want = append(want, i)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if !slices.Equal(got, want) {
			t.Errorf("delivered: %v", got)
		}
	})
}

func TestOfMoreThanTheLimitTheOldestAreDroppedAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})
		var got []int
		var dropped []uint64
		q := delivery.Queue[int]{Limit: 3, Dropped: func(n uint64) { dropped = append(dropped, n) },
			Call: func(v int) {
				<-open
				got = append(got, v)
			}}
		q.Put(0)
		synctest.Wait() // the call is running
		for i := 1; i <= 10; i++ {
			q.Put(i)
		}
		close(open)
		synctest.Wait()
		if want := []int{0, 8, 9, 10}; !slices.Equal(got, want) {
			t.Errorf("delivered: %v, not %v", got, want)
		}
		if !slices.Equal(dropped, []uint64{7}) {
			t.Errorf("dropped: %v, not 7", dropped)
		}
	})
}

func TestACallThatPanicsOrEndsItsGoroutineStopsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got, panicked []int
		q := delivery.Queue[int]{Limit: 10, Panicked: func(v int, _ any, stack string) {
			if stack == "" {
				t.Error("no stack")
			}
			panicked = append(panicked, v)
		}, Call: func(v int) {
			switch v {
			case 1:
				panic("one")
			case 2:
				runtime.Goexit()
			}
			got = append(got, v)
		}}
		for i := range 4 {
			q.Put(i)
		}
		synctest.Wait()
		if !slices.Equal(got, []int{0, 3}) || !slices.Equal(panicked, []int{1}) {
			t.Errorf("delivered: %v, panicked: %v", got, panicked)
		}
	})
}

func TestACloseDropsWhatIsPendingAndSaysNothingOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})
		calls := 0
		q := delivery.Queue[int]{Limit: 1, Dropped: func(uint64) { t.Error("a drop was reported") },
			Call: func(int) {
				<-open
				calls++
			}}
		q.Put(0)
		synctest.Wait()
		if q.Running().IsZero() {
			t.Error("the running call is not seen")
		}
		q.Put(1)
		q.Put(2)
		q.Close()
		q.Put(3)
		close(open)
		synctest.Wait()
		if calls != 1 || !q.Running().IsZero() {
			t.Errorf("%d calls, running since %v", calls, q.Running())
		}
	})
}
