package batch

import (
	"fmt"

	"github.com/redis/go-redis/v9"
)

// AutoPipeliner returns the client's blocking AutoPipeliner of go-redis with these settings. If
// there is one with other settings, that is an error. Full duplex stays off: a hook cannot guard
// what is already written.
func AutoPipeliner(rdb redis.UniversalClient, s Settings) (*redis.AutoPipeliner, error) {
	s.Concurrency = max(s.Concurrency, 1)
	want := redis.DefaultBlockingAutoPipelineOptions()
	want.MaxBatchSize, want.MaxFlushDelay, want.MaxConcurrentBatches = s.Size, s.Delay, s.Concurrency
	want.Unordered = s.Concurrency > 1 // each call waits for its reply, so those of one goroutine keep their order
	ap, err := rdb.AutoPipelineWithOptions(want)
	if err != nil {
		return nil, err
	}
	got := ap.Config()
	if got.FullDuplex || got.MaxBatchSize != want.MaxBatchSize || got.MaxFlushDelay != want.MaxFlushDelay ||
		got.Unordered != want.Unordered || got.MaxConcurrentBatches != want.MaxConcurrentBatches {
		return nil, fmt.Errorf("lifeguard/managed: Batched: the client has an AutoPipeliner with other options (at most %d commands, delay %v, %d at a time, full duplex %t): Close that one first",
			got.MaxBatchSize, got.MaxFlushDelay, got.MaxConcurrentBatches, got.FullDuplex)
	}
	return ap, nil
}
