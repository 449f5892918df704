package browser_test

import (
	"os"
	"testing"
)

// The page does not show its own functions, so this one runs beside it.
func TestAClockThatIsSetBackDoesNotStopTheCharts(t *testing.T) {
	source, err := os.ReadFile("../../monitor/dashboard/assets/js/series.js")
	if err != nil {
		t.Fatal(err)
	}
	_, at := serve(t, 10)
	p := open(t, at, 1440, 900)
	if got := eval[string](p, `(() => { `+string(source)+`
		const s = new Series(['x']);
		for (let i = 0; i < 5; i++) s.add(1e9 + 1000 * i, [i], 1);
		s.add(1e9 + 4000 - 3600e3, [5], 1); s.add(1e9 + 5000 - 3600e3, [6], 1);
		return s.t.map((x) => x - 1e6 + 3600).join() + ' ' + s.cols[0].join(); })()`); got != "-1,0,1,2,3,4,5 0,1,2,3,4,5,6" {
		t.Error(got)
	}
}
