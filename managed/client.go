package managed

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
	"github.com/lifeguard-redis/lifeguard/internal/redisopt"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// Client is a go-redis client whose connections are managed. It is a
// redis.UniversalClient and safe for concurrent use.
type Client struct {
	*redis.Client
	*core
	unit  *unit
	own   *handle
	users *conntrack.UserHooks // the user's hooks on this client or clone

	through *conntrack.Hook // our hook on this client or clone
	options *redis.Options  // as given
}

// handle is one owner's right to close a shared client.
type handle struct {
	once   sync.Once
	closed atomic.Bool
	close  func() error // nil: close the client itself
	err    error
}

// New makes a client. It does not wait for the server: connections are dialed when they are needed,
// and MinIdleConns of them at once in the background. opt is cloned, never changed. An invalid option
// is an error that names the option and its value.
func New(opt *redis.Options, opts ...Option) (*Client, error) {
	if err := redisopt.Validate(opt); err != nil {
		return nil, err
	}
	core, err := newCore(opts, opt, false)
	if err != nil {
		return nil, err
	}
	u, err := core.newUnit(opt)
	if err != nil {
		return nil, err
	}
	core.closer = u.close
	if err := core.watch(u.retry.Stats); err != nil {
		_ = core.close()
		return nil, err
	}
	return &Client{Client: u.rdb, core: core, unit: u, own: &handle{}, users: u.users, through: u.hook, options: redisopt.Given(u.rdb.Options(), opt)}, nil
}

// NewClient is New as a replacement for redis.NewClient: it panics where New returns an error.
func NewClient(opt *redis.Options, opts ...Option) *Client {
	c, err := New(opt, opts...)
	if err != nil {
		panic(err)
	}
	return c
}

// Open makes a client from a URL in the format of redis.ParseURL, connects and sends a PING, so
// that a wrong address or password is noticed at once. ctx bounds that. Errors name the address,
// never the password.
func Open(ctx context.Context, url string, opts ...Option) (*Client, error) {
	opt, err := redisopt.ParseURL(url)
	if err != nil {
		return nil, err
	}
	c, err := New(opt, opts...)
	if err != nil {
		return nil, err
	}
	ping := make(chan error, 1)
	go func() { ping <- c.Ping(retry.Bound(ctx)).Err() }() // no retry: a mistake should be noticed at once
	select {
	case err = <-ping:
	case <-ctx.Done(): // go-redis ignores it while it connects
		err = fmt.Errorf("no answer: %w", ctx.Err())
	}
	if err != nil {
		_ = c.Close()
		where := " " + c.Options().Addr
		if strings.Contains(err.Error(), c.Options().Addr) {
			where = "" // already in the error
		}
		return nil, errtext.Note(err, "lifeguard/managed: open%s", where)
	}
	return c, nil
}

// AddHook adds a hook, as in go-redis: it sees each call once, with the error that the caller gets.
// Repetitions and waits happen inside it; retry.Policy.OnRetry reports them. It sees dials as they
// are made. If it goes on with a ctx that is not derived from its own, what that carried may be lost,
// such as the marks of package retry. It is safe for concurrent use.
func (c *Client) AddHook(hook redis.Hook) {
	c.users.Add(hook)
	c.Client.AddHook(conntrack.DialOnly(hook)) // makes go-redis call our hook again
	if c.Client != c.unit.rdb {
		if c.own.close != nil { // a handle of Shared
			c.unit.rdb.AddHook(conntrack.DialOnly(hook))
		}
		return
	}
	if b := c.unit.blocking.unit.Load(); b != nil {
		b.rdb.AddHook(conntrack.DialOnly(hook))
	}
}

// WithTimeout returns a clone with another read and write timeout. The clone shares the pools, and
// is managed, too. As in go-redis it has none of the hooks that were added to c, and closing it
// closes c.
func (c *Client) WithTimeout(d time.Duration) *Client {
	clone, users := c.Client.WithTimeout(d), &conntrack.UserHooks{}
	through := *c.through
	c.unit.blockWithin(&through, d)
	through.Install(clone, users, nil)
	opt := *c.options
	opt.ReadTimeout, opt.WriteTimeout = d, d
	return &Client{Client: clone, core: c.core, unit: c.unit, own: c.own, users: users, through: &through, options: &opt}
}

// Close closes the client at once, as in go-redis: commands in flight fail, and a second Close
// returns redis.ErrClosed. Leases that are still held are released; commands on them fail.
func (c *Client) Close() error {
	if c.own.close == nil {
		return c.closeNow()
	}
	again := true
	c.own.once.Do(func() {
		again = false
		c.own.closed.Store(true)
		c.own.err = c.own.close()
	})
	if again {
		return redis.ErrClosed
	}
	return c.own.err
}

func (c *Client) closeNow() error { return c.core.close() }

// Options returns the options that the client was made with, including go-redis's defaults, as
// go-redis does: do not modify them. Nothing in them belongs to this client: another one can be
// made from a copy.
func (c *Client) Options() *redis.Options { return c.options }
