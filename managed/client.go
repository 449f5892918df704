package managed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/upkeep"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// Client is a go-redis client whose connections are managed. It is a
// redis.UniversalClient and safe for concurrent use.
type Client struct {
	*redis.Client
	*unit
	own   *handle
	users *conntrack.Users // the user's hooks, of this client or clone

	through *conntrack.Hook // ours on this client or clone
	options *redis.Options  // as given
}

// core is what all handles and clones of one client share.
type core struct {
	set        settings
	tracker    *conntrack.Tracker
	keeper     *upkeep.Keeper
	closer     func() error       // closes go-redis's client
	calls      func() int64       // commands under way outside of nodes, nil for none
	takenOver  func(*unit)        // acts on a node of a cluster that answers nobody, nil elsewhere
	redirected func(*unit, error) // acts on a lease's MOVED, nil elsewhere
	warned     atomic.Bool        // that the pools do not fit into the limit
	draining   atomic.Bool        // CloseGracefully was called
	closed     atomic.Bool
	batchers   sync.Map // go-redis's AutoPipeliners, made by Batched

	standIns struct { // made by Instrument
		sync.Mutex
		all []interface{ Close() error }
	}

	warnedServer atomic.Bool // that they do not fit into the server
	sites        siteLog
	leaky        leakySites

	monitor *monitor.Monitor
	retries func() retry.Stats

	ctx  context.Context // ends when the client is closed
	stop context.CancelFunc

	mu  sync.Mutex
	all []*unit
}

// handle is one owner's right to close a shared client.
type handle struct {
	once   sync.Once
	closed atomic.Bool
	close  func() error // nil: close the client itself
	err    error
}

// New makes a client. It opens nothing: connections are dialed when they are
// needed. opt is cloned, never changed. Invalid options give an error that names
// the option and its value.
func New(opt *redis.Options, opts ...Option) (*Client, error) {
	if err := validate(opt); err != nil {
		return nil, err
	}
	core, err := newCore(opts, opt)
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
	return &Client{Client: u.rdb, unit: u, own: &handle{}, users: u.users, through: u.hook, options: asGiven(u.rdb.Options(), opt)}, nil
}

func newCore(opts []Option, opt *redis.Options) (*core, error) {
	c := &core{set: defaults()}
	for _, o := range opts {
		if o == nil {
			return nil, errors.New("lifeguard/managed: a nil Option was given")
		}
		if err := o(&c.set); err != nil {
			return nil, err
		}
	}
	c.set.fill(opt)
	c.sites.log = c.set.log
	c.tracker = conntrack.NewTracker(conntrack.Config{OnEvent: c.set.onEvent, Logger: c.set.log, Now: c.set.now, Wall: c.set.wall,
		ConnLimit: c.set.connLimit, Opaque: true})
	c.tracker.SetValidateAfter(c.set.validateAfter)
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.keeper = upkeep.New(upkeep.Config{Context: c.ctx, Tracker: c.tracker, Logger: c.set.log, Jitter: c.set.maxAgeJitter,
		Detection: upkeep.Detection(c.set.suspicion)})
	c.keeper.SetMaxAge(c.set.maxAge)
	c.keeper.SetMaxIdle(c.set.maxIdle)
	c.keeper.SetHeartbeat(c.set.heartbeat)
	return c, nil
}

// add takes in a unit and has it looked after.
func (c *core) add(u *unit) {
	c.mu.Lock()
	c.all = append(c.all, u)
	c.mu.Unlock()
	c.keeper.Add(&u.keep)
	c.warnOfLimit()
}

// remove forgets a unit.
func (c *core) remove(u *unit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = slices.DeleteFunc(c.all, func(x *unit) bool { return x == u })
}

// units returns the units of all nodes, in the order in which they came, the pools for
// blocking commands among them.
func (c *core) units() []*unit {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.all)
}

// NewClient is New for those who replace redis.NewClient: it panics where New
// returns an error.
func NewClient(opt *redis.Options, opts ...Option) *Client {
	c, err := New(opt, opts...)
	if err != nil {
		panic(err)
	}
	return c
}

// Open makes a client from a URL as redis.ParseURL takes it, connects and sends
// a PING, so that a wrong address or password shows at once. ctx bounds that.
// Errors name the address, never the password.
func Open(ctx context.Context, url string, opts ...Option) (*Client, error) {
	opt, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	c, err := New(opt, opts...)
	if err != nil {
		return nil, err
	}
	ping := make(chan error, 1)
	go func() { ping <- c.Ping(retry.Bound(ctx)).Err() }() // no second try: what is wrong shall show at once
	select {
	case err = <-ping:
	case <-ctx.Done(): // go-redis does not look at it while it connects
		err = fmt.Errorf("no answer: %w", ctx.Err())
	}
	if err != nil {
		_ = c.Close()
		where := " " + c.Options().Addr
		if strings.Contains(err.Error(), c.Options().Addr) {
			where = "" // it is named once
		}
		return nil, note(err, "lifeguard/managed: open%s", where)
	}
	return c, nil
}

// AddHook adds a hook, as in go-redis: it sees each call once, with the error that the
// caller gets. Repetitions and waits are inside of it; retry.Policy.OnRetry tells of
// them. Dials it sees as they are made. It must hand on the ctx that it got, or one that
// is made from that. It is safe for concurrent use.
func (c *Client) AddHook(hook redis.Hook) {
	c.users.Add(hook)
	c.Client.AddHook(conntrack.DialOnly(hook)) // makes go-redis ask our hook again
	if c.Client != c.rdb {
		if c.own.close != nil { // a handle of Shared
			c.rdb.AddHook(conntrack.DialOnly(hook))
		}
		return
	}
	if b := c.blocking.unit.Load(); b != nil {
		b.rdb.AddHook(conntrack.DialOnly(hook))
	}
}

// WithTimeout returns a clone with another read and write timeout that shares
// the pools, as in go-redis. Unlike go-redis's it keeps the management, and the hooks
// that have been added. Closing it closes the client.
func (c *Client) WithTimeout(d time.Duration) *Client {
	clone, users := c.Client.WithTimeout(d), c.users.Clone()
	through := *c.through
	c.unit.blockWithin(&through, d)
	through.Install(clone, users, nil)
	opt := *c.options
	opt.ReadTimeout, opt.WriteTimeout = d, d
	return &Client{Client: clone, unit: c.unit, own: c.own, users: users, through: &through, options: &opt}
}

// Conns describes every open connection, the oldest first: those of the main and
// of the pipeline pool and those of pub/sub.
func (c *Client) Conns() []hooks.ConnInfo { return c.core.tracker.Conns() }

// Close closes the client at once, as in go-redis: commands in flight fail, and
// a second Close returns redis.ErrClosed. Leases that are still held are
// released; commands on them fail.
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

// close closes everything at once.
func (c *core) close() error {
	c.closed.Store(true)
	if c.monitor != nil {
		_ = c.monitor.Close()
	}
	c.tracker.Shut()
	c.stop()
	c.keeper.Close()
	for _, u := range c.units() {
		u.node.Close() // ends its dials, and the waits for others' handshakes
	}
	c.tracker.CloseSentinels()
	err := c.closer()
	for _, u := range c.units() {
		u.leases.closed()
		if !u.main() {
			_ = u.rdb.Close() // in a cluster or ring nobody else does
		}
	}
	c.tracker.CloseAll()
	c.closeStandIns()
	c.sites.close()
	return err
}
