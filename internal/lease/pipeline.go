package lease

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// Pipeline returns a pipeline of the lease.
func (l *Lease) Pipeline(owner any) redis.Pipeliner {
	l.seePipelines()
	return &pipeliner{l.Conn.Pipeline(), l, owner}
}

// TxPipeline returns a transaction of the lease.
func (l *Lease) TxPipeline(owner any) redis.Pipeliner {
	l.seePipelines()
	return &pipeliner{l.Conn.TxPipeline(), l, owner}
}

// seePipelines passes pipelines on the Conn to the lease.
func (l *Lease) seePipelines() {
	if l.plain {
		l.pipelines.Do(func() { l.pool.Node.LeasePipelines(l.Conn, l) })
	}
}

// pipeliner is a pipeline of a lease: its Exec respects the lease and its ctx.
type pipeliner struct {
	redis.Pipeliner
	lease *Lease
	owner any // so that it is not collected
}

func (p *pipeliner) Exec(ctx context.Context) ([]redis.Cmder, error) {
	ctx = retry.Bound(ctx) // nothing is repeated on a lease
	if !p.lease.plain {
		ctx = conntrack.Leased(ctx, p.lease)
	}
	return p.Pipeliner.Exec(ctx)
}

func (p *pipeliner) Pipelined(ctx context.Context, fn func(redis.Pipeliner) error) ([]redis.Cmder, error) {
	if err := fn(p); err != nil {
		return nil, err
	}
	return p.Exec(ctx)
}

func (p *pipeliner) TxPipelined(ctx context.Context, fn func(redis.Pipeliner) error) ([]redis.Cmder, error) {
	return p.Pipelined(ctx, fn)
}

func (p *pipeliner) Pipeline() redis.Pipeliner   { return p }
func (p *pipeliner) TxPipeline() redis.Pipeliner { return p }
