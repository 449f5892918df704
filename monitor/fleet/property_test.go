package fleet_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/fleet"
	"github.com/lifeguard-redis/lifeguard/serverside"
)

var seed = flag.Uint64("seed", 0, "repeat a run of the reaper's property test")

// chaos is a fleet to which things happen.
type chaos struct {
	t      *testing.T
	s      *redistest.Server
	rnd    *rand.Rand
	owners sync.Map // *being by the local address of a connection
	all    []*being
	saved  func() // restores what was in the database a while ago
	wrong  chan string
	log    redistest.Log
	ended  atomic.Int64
}

// being is an instance of the chaos.
type being struct {
	name   string
	dead   atomic.Bool
	stall  atomic.Bool // it does not reach Redis
	more   func()      // opens one more connection, and keeps it
	pub    *fleet.Publisher
	close  func()
	lost   time.Duration
	keep   time.Duration
	wakes  time.Time
	silent time.Time // since when it is stalled
}

func (b *being) Allow() error {
	if b.stall.Load() {
		return errors.New("stalled")
	}
	return nil
}
func (*being) ReportResult(error) {}

// Every process here may be late by what it says it may be, LostAfter, and then for its
// Keep as long as what it published is not lost.
func TestTheReaperEndsNoConnectionOfAProcessThatIsAlive(t *testing.T) {
	onEach(t, func(t *testing.T, s *redistest.Server) {
		n := *seed
		if n == 0 {
			n = rand.Uint64()
		}
		t.Logf("repeat it with -run '%s' -seed %d", t.Name(), n)
		c := &chaos{t: t, s: s, rnd: rand.New(rand.NewPCG(n, 0)), wrong: make(chan string, 100)}
		for range 4 {
			c.join()
		}
		ctx, cancel := context.WithCancel(bg)
		var reapers sync.WaitGroup
		for i := range uint64(2) {
			reapers.Go(func() { c.reap(ctx, rand.New(rand.NewPCG(n, 1+i))) })
		}
		defer reapers.Wait()
		defer cancel()
		length := 12 * time.Second
		if testing.Short() {
			length = 4 * time.Second
		}
		for end := time.Now().Add(length); time.Now().Before(end); {
			c.happens()
			c.check()
			time.Sleep(time.Duration(20+c.rnd.IntN(180)) * time.Millisecond)
		}
		c.living() // a fleet in which nobody lives says nothing, and everybody is spared
		alive := 0
		for _, b := range c.all {
			if !b.dead.Load() {
				alive++
				b.stall.Store(false)
			}
		}
		t.Logf("%d instances, %d alive, %d connections ended so far", len(c.all), alive, c.ended.Load())
		defer func() {
			if t.Failed() {
				t.Log(c.log.String())
			}
		}()
		redistest.Eventually(t, "what the dead left behind is ended", 40*time.Second, func() bool {
			c.check()
			for _, one := range s.ClientList(t) {
				if b, ok := c.owners.Load(one.Addr); ok && b.(*being).dead.Load() {
					return false
				}
			}
			return true
		})
		t.Logf("%d connections ended", c.ended.Load())
	})
}

func (c *chaos) check() {
	select {
	case what := <-c.wrong:
		c.t.Fatal(what)
	default:
	}
}

// reap ends what is due, by a reaper that another one takes over from now and then.
func (c *chaos) reap(ctx context.Context, rnd *rand.Rand) {
	opt := c.s.Options()
	opt.ClientName = "reader"
	rdb := redis.NewClient(opt)
	defer rdb.Close()
	for ctx.Err() == nil {
		members, err := fleet.NewMembers(rdb, fleet.WithLogger(c.log.Logger()))
		require.NoError(c.t, err)
		r, err := serverside.NewReaper(rdb, serverside.Policy{Everybody: true, MaxAge: time.Second,
			Spare: serverside.SpareAny(serverside.SpareLive(members), serverside.SpareNames("reader", "judge"))},
			serverside.WithLogger(quiet), serverside.WithoutLock(), serverside.WithKillHandler(c.killed))
		require.NoError(c.t, err)
		for end := time.Now().Add(time.Duration(1+rnd.IntN(8)) * time.Second); time.Now().Before(end) && ctx.Err() == nil; {
			_, _ = r.Once(ctx)
			time.Sleep(time.Duration(10+rnd.IntN(200)) * time.Millisecond)
		}
	}
}

func (c *chaos) killed(k serverside.Kill) {
	c.ended.Add(1)
	if b, ok := c.owners.Load(k.Client.Addr); ok && !b.(*being).dead.Load() {
		c.wrong <- fmt.Sprintf("%s lives, and this was ended: %v", b.(*being).name, k.Client)
	}
}

// join has an instance begin, known by its addresses or by a name.
func (c *chaos) join() {
	b := &being{name: fmt.Sprintf("being-%d", len(c.all)), lost: time.Duration(600+c.rnd.IntN(600)) * time.Millisecond,
		keep: time.Duration(2000+c.rnd.IntN(3000)) * time.Millisecond}
	opt := c.s.Options()
	opt.Limiter, opt.MaxRetries = b, -1
	opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil {
			c.owners.Store(conn.LocalAddr().String(), b)
		}
		return conn, err
	}
	opts := []fleet.Option{fleet.WithInterval(b.lost / 4), fleet.WithLostAfter(b.lost), fleet.WithRetention(b.keep), fleet.WithTimeout(b.lost / 4), fleet.WithLogger(quiet)}
	var m *monitor.Monitor
	var rdb redis.UniversalClient
	var hold func() error
	if c.rnd.IntN(2) == 0 {
		opt.ClientName = "beings"
		one, err := managed.New(opt, managed.WithLogger(quiet))
		require.NoError(c.t, err)
		hold = func() error { _, err := one.Acquire(bg); return err }
		src := listing{monitor.FromClient(one), one}
		m, err = monitor.New(src)
		require.NoError(c.t, err)
		rdb = one
	} else {
		opt.ClientName = b.name
		one := redis.NewClient(opt)
		hold = func() error { return one.Conn().Ping(bg).Err() }
		var err error
		m, err = monitor.New(monitor.FromClient(one))
		require.NoError(c.t, err)
		rdb = one
		opts = append(opts, fleet.WithClientNames(b.name))
	}
	var kept atomic.Int32
	b.more = func() {
		if kept.Load() < 5 && !b.stall.Load() && hold() == nil {
			kept.Add(1)
		}
	}
	b.more()
	var err error
	b.pub, err = fleet.Publish(m, rdb, opts...)
	require.NoError(c.t, err)
	b.close = sync.OnceFunc(func() { _ = b.pub.Close(); _ = m.Close(); _ = rdb.Close() })
	c.t.Cleanup(b.close)
	c.all = append(c.all, b)
}

func (c *chaos) living() *being {
	var living []*being
	for _, b := range c.all {
		if !b.dead.Load() {
			living = append(living, b)
		}
	}
	if len(living) == 0 {
		c.join()
		return c.all[len(c.all)-1]
	}
	return living[c.rnd.IntN(len(living))]
}

// happens has something happen.
func (c *chaos) happens() {
	for _, b := range c.all {
		if b.stall.Load() && !b.dead.Load() && time.Now().After(b.wakes) {
			b.stall.Store(false)
		}
	}
	switch c.rnd.IntN(30) {
	case 0, 1, 2:
		if len(c.all) < 30 {
			c.join()
		}
	case 3, 4: // it dies, and its connections stay
		b := c.living()
		b.dead.Store(true)
		b.stall.Store(true)
		_ = b.pub.Close()
	case 5:
		b := c.living()
		b.dead.Store(true)
		b.close()
	case 6, 7, 8:
		b := c.living()
		if !b.stall.Load() {
			b.silent = time.Now()
			b.wakes = b.silent.Add(time.Duration(c.rnd.Int64N(int64(b.keep - time.Second))))
			b.stall.Store(true)
		}
	case 9:
		c.awake()
		c.s.Admin().FlushAll(bg)
	case 10:
		c.awake()
		c.s.Admin().Del(bg, c.key("instance:"+c.living().pub.ID()))
	case 11:
		c.awake()
		c.s.Admin().Del(bg, c.key("instances"))
	case 12:
		c.saved = c.save()
	case 13: // a failover to a replica that is behind
		if c.saved != nil {
			c.awake()
			c.saved()
			c.saved = nil
		}
	case 14: // the server's clock is set
		c.awake()
		d := []time.Duration{3 * time.Hour, 72 * time.Hour, -time.Second, 2 * time.Second}[c.rnd.IntN(4)]
		c.shift(d)
	default:
		go c.living().more()
	}
}

// awake ends what is silent for longer than it may be: what it published is lost now.
func (c *chaos) awake() {
	for _, b := range c.all {
		if b.stall.Load() && !b.dead.Load() {
			b.stall.Store(false)
			_ = b.pub.Now(bg)
		}
	}
}

func (c *chaos) key(of string) string { return "lifeguard:{fleet:default}:" + of }

// save notes what is in the database, and returns what restores it.
func (c *chaos) save() func() { return c.copy(0) }

// shift has the database look as if the server's clock had been set d ahead.
func (c *chaos) shift(d time.Duration) { c.copy(d)() }

func (c *chaos) copy(d time.Duration) func() {
	admin := c.s.Admin()
	index, err := admin.ZRangeWithScores(bg, c.key("instances"), 0, -1).Result()
	require.NoError(c.t, err)
	for i := range index {
		move := -float64(d.Milliseconds())
		switch {
		case index[i].Member == "@longest":
			move = 0
		case index[i].Score < 0:
			move = -move
		}
		index[i].Score += move
	}
	keys, err := admin.Keys(bg, c.key("instance:*")).Result()
	require.NoError(c.t, err)
	keys = append(keys, c.key("instances"))
	hashes, ends := map[string]map[string]string{}, map[string]time.Time{}
	for _, k := range keys {
		left, err := admin.PTTL(bg, k).Result()
		require.NoError(c.t, err)
		if left > 0 {
			ends[k] = time.Now().Add(left - d)
		}
		if !strings.HasSuffix(k, ":instances") {
			if hashes[k], err = admin.HGetAll(bg, k).Result(); err != nil {
				c.t.Error(err)
			}
		}
	}
	return func() {
		_, err := admin.TxPipelined(bg, func(p redis.Pipeliner) error {
			p.FlushAll(bg)
			if len(index) > 0 {
				p.ZAdd(bg, c.key("instances"), index...)
			}
			for k, h := range hashes {
				if len(h) > 0 {
					p.HSet(bg, k, h)
				}
			}
			for k, end := range ends {
				p.PExpire(bg, k, time.Until(end))
			}
			return nil
		})
		require.NoError(c.t, err)
	}
}
