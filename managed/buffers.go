package managed

import "github.com/redis/go-redis/v9"

// Buffers are the sizes, in bytes, of the buffers that go-redis keeps for every connection as long
// as it is open. Zero: the size from the Options. go-redis's defaults are 32 KiB each for single
// commands, 512 KiB each for pipelines: an idle pool of 100 holds 6.4 MiB. Data larger than a
// buffer passes through it in pieces; that costs system calls, not correctness.
type Buffers struct {
	Read, Write                 int // of connections for single commands, transactions and leases
	PipelineRead, PipelineWrite int // of connections for pipelines
}

// minBuffer is enough for most of go-redis's own commands of a handshake.
const minBuffer = 512

// WithBuffers sets the sizes of the buffers, in bytes, overriding those of the Options. For values of
// a few hundred bytes, 4 KiB are as fast as the defaults. Default, and for each zero field: the
// Options. Sizes from 1 to 511 and negative ones are errors.
func WithBuffers(b Buffers) Option {
	return func(s *settings) error {
		for _, n := range []int{b.Read, b.Write, b.PipelineRead, b.PipelineWrite} {
			if n < 0 || n > 0 && n < minBuffer {
				return bad("WithBuffers", n, "must be 0, or at least 512 bytes")
			}
		}
		s.buffers = b
		return nil
	}
}

// resize sets the sizes in options that are about to be used.
func (b Buffers) resize(opt *redis.Options) {
	for _, x := range []struct {
		size int
		into *int
	}{{b.Read, &opt.ReadBufferSize}, {b.Write, &opt.WriteBufferSize},
		{b.PipelineRead, &opt.PipelineReadBufferSize}, {b.PipelineWrite, &opt.PipelineWriteBufferSize}} {
		if x.size > 0 {
			*x.into = x.size
		}
	}
}
