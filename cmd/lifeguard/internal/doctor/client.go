package doctor

import (
	"fmt"
	"runtime"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/managed"
)

// Client is the configuration of the clients that use the server.
type Client struct {
	Options *redis.Options // as given: 0 is go-redis's default
	From    string         // where it comes from
	Managed bool           // it is a managed client

	Instances   int     // processes, each with such a client; at least 1
	Concurrency int     // callers at once in a process; 0: not known
	Rate        float64 // commands a second of a process; 0: not known
	Processors  int     // GOMAXPROCS of a process; 0: as here

	Set Settings // of a managed client

	Page string // address of the page of a running program's monitor; "": none
}

// Settings are options of package managed. A nil one is not given.
type Settings struct {
	MaxAge       *time.Duration
	MaxIdle      *time.Duration
	Heartbeat    *time.Duration
	BlockingPool *int
	ConnLimit    *int
}

// Effective is a Client with the defaults filled in, for the reader of a report.
type Effective struct {
	From      string `json:"from"`
	Managed   bool   `json:"managed"`
	Instances int    `json:"instances"`

	PoolSize         int     `json:"pool_size"`
	PoolSizeIsGiven  bool    `json:"pool_size_is_given"`
	PipelinePoolSize int     `json:"pipeline_pool_size"`
	BlockingPool     int     `json:"blocking_pool"`
	ConnLimit        int     `json:"conn_limit"`   // 0: none
	PerInstance      int     `json:"per_instance"` // connections to a node that a process may open
	Concurrency      int     `json:"concurrency"`  // 0: not known
	Rate             float64 `json:"rate"`         // 0: not known
	Processors       int     `json:"processors"`
	MinIdleConns     int     `json:"min_idle_conns"`
	MaxIdleConns     int     `json:"max_idle_conns"`
	MaxRetries       int     `json:"max_retries"`
	ContextTimeout   bool    `json:"context_timeout_enabled"`
	Named            bool    `json:"named"`

	PoolTimeout time.Duration `json:"pool_timeout_ns"`
	DialTimeout time.Duration `json:"dial_timeout_ns"`
	ReadTimeout time.Duration `json:"read_timeout_ns"` // 0: none
	MaxAge      time.Duration `json:"max_age_ns"`      // 0: none
	AgeJitter   bool          `json:"max_age_jitter"`  // ends are spread
	MaxIdle     time.Duration `json:"max_idle_ns"`     // 0: none
	Heartbeat   time.Duration `json:"heartbeat_ns"`    // 0: none, negative: automatic
}

// effective fills in the defaults, using go-redis itself.
func (c Client) effective() Effective {
	given := redis.Options{}
	if c.Options != nil {
		given = *c.Options
	}
	asked := given
	asked.MinIdleConns, asked.StreamingCredentialsProvider, asked.ClientSideCacheConfig = 0, nil, nil // nothing must be dialed
	probe := redis.NewClient(&asked)
	full := probe.Options()
	_ = probe.Close()

	e := Effective{From: c.From, Managed: c.Managed, Instances: max(c.Instances, 1), Concurrency: c.Concurrency, Rate: c.Rate, Processors: c.Processors,
		PoolSize: full.PoolSize, PoolSizeIsGiven: given.PoolSize != 0, PipelinePoolSize: full.PipelinePoolSize, MinIdleConns: given.MinIdleConns,
		MaxIdleConns: full.MaxIdleConns, MaxRetries: full.MaxRetries, ContextTimeout: full.ContextTimeoutEnabled, Named: full.ClientName != "",
		PoolTimeout: full.PoolTimeout, DialTimeout: full.DialTimeout, ReadTimeout: max(full.ReadTimeout, 0), MaxAge: max(full.ConnMaxLifetime, 0),
		AgeJitter: full.ConnMaxLifetimeJitter > 0, MaxIdle: max(full.ConnMaxIdleTime, 0)}
	if e.Processors == 0 {
		e.Processors = runtime.GOMAXPROCS(0)
	}
	if !e.PoolSizeIsGiven {
		e.PoolSize = 10 * e.Processors
	}
	switch {
	case full.PipelinePoolSize < 0:
		e.PipelinePoolSize = 0
	case full.PipelinePoolSize == 0:
		e.PipelinePoolSize = redis.DefaultPipelinePoolSize
	}
	main := e.PoolSize
	if given.MaxActiveConns > 0 {
		main = min(main, given.MaxActiveConns)
	}
	e.PerInstance = main + e.PipelinePoolSize
	if c.Managed {
		s := c.Set
		e.Heartbeat = -1
		e.AgeJitter = true
		e.ContextTimeout = true
		for _, d := range []struct {
			to   *time.Duration
			from *time.Duration
		}{{&e.MaxAge, s.MaxAge}, {&e.MaxIdle, s.MaxIdle}, {&e.Heartbeat, s.Heartbeat}} {
			if d.from != nil {
				*d.to = *d.from
			}
		}
		if s.BlockingPool != nil {
			e.BlockingPool = *s.BlockingPool
			e.PerInstance += e.BlockingPool
		}
		if s.ConnLimit != nil && *s.ConnLimit > 0 {
			e.ConnLimit = *s.ConnLimit
			e.PerInstance = min(e.PerInstance, e.ConnLimit)
		}
	}
	return e
}

// rule is managed.SuggestPoolSize, a lower bound, for a given number of processors.
func rule(callers, processors int) int {
	if processors == runtime.GOMAXPROCS(0) {
		return managed.SuggestPoolSize(callers)
	}
	return max(1, min(callers, 2*processors+1))
}

func (e Effective) String() string {
	kind := "bare go-redis"
	if e.Managed {
		kind = "managed by lifeguard"
	}
	return fmt.Sprintf("%s, %s", kind, e.From)
}
