// Package batch sends commands of concurrent callers together: with its own batches for managed's
// Adaptive, and with go-redis's AutoPipeliner for Batched. It knows the client that it sends on
// only as a [Node].
package batch
