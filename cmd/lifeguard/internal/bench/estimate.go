package bench

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Estimate is a median over the rounds, with two standard errors of it, by
// resampling, and the quarters of the rounds.
type Estimate struct {
	Median float64 `json:"median"`
	TwoSE  float64 `json:"two_standard_errors"`
	Low    float64 `json:"lower_quartile"`
	High   float64 `json:"upper_quartile"`
}

func (e Estimate) String() string { return fmt.Sprintf("%.3f ± %.3f", e.Median, e.TwoSE) }

// estimate estimates f over all rounds.
func estimate(rs []round, f func(round) float64) Estimate {
	v := make([]float64, len(rs))
	for i, r := range rs {
		v[i] = f(r)
	}
	slices.Sort(v)
	const resamples = 400
	gen := rand.New(rand.NewPCG(1, 2)) // the same rounds give the same estimate
	medians, again := make([]float64, resamples), make([]float64, len(v))
	mean, squares := 0.0, 0.0
	for i := range medians {
		for j := range again {
			again[j] = v[gen.IntN(len(v))]
		}
		slices.Sort(again)
		medians[i] = quantile(again, 0.5)
		mean += medians[i] / resamples
	}
	for _, m := range medians {
		squares += (m - mean) * (m - mean) / (resamples - 1)
	}
	return Estimate{quantile(v, 0.5), 2 * math.Sqrt(squares), quantile(v, 0.25), quantile(v, 0.75)}
}

// quantile returns a quantile of sorted values, interpolated between neighbours.
func quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return 0
	}
	at := q * float64(len(v)-1)
	i := int(at)
	if i+1 >= len(v) {
		return v[len(v)-1]
	}
	return v[i] + (at-float64(i))*(v[i+1]-v[i])
}
