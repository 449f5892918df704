// Package demo shows what a managed client does while people watch.
package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/show"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/monitor"
)

// Config says what to run.
type Config struct {
	For  time.Duration // how long in all
	Addr string        // of a server, host:port; "" and no URL: an embedded one
	URL  string        // of a server; not together with Addr
	HTTP string        // where to serve the live page, host:port; "": nowhere
	Loop bool          // begin again after For, until ctx ends
	All  bool          // every phase, under load, instead of the three acts; so it is with HTTP
	Out  io.Writer     // a terminal gets a live table, anything else plain lines
	JSON bool          // only the summary, as one object
}

// demo is the shared state of the phases.
type demo struct {
	server *server
	proxy  *proxy // in front of server, for everything that is cut
	client *managed.Client
	load   *load
	watch  *watcher
	screen *screen
	prefix string // of all keys
	start  time.Time
	leak   time.Duration // leak threshold of client

	notes []string // for the summary
}

// Run runs the demo until it is over or ctx ends; both return nil. An error means that it could not
// run, or that something did not work as promised.
func Run(ctx context.Context, cfg Config) (err error) {
	out := cfg.Out
	if cfg.JSON {
		out = io.Discard
	}
	d := &demo{screen: newScreen(out, cfg.For), prefix: "lifeguard:demo:" + rand.Text()[:8] + ":"}
	all := cfg.All || cfg.HTTP != ""
	if !all {
		d.screen.printf("Three things that go wrong with connections, without lifeguard and with it.\n")
		defer func() {
			if ctx.Err() != nil {
				d.screen.printf("\nended early as asked\n")
			}
		}()
	}
	if d.server, err = startServer(ctx, cfg); err != nil {
		return stopped(ctx, err)
	}
	defer d.server.close()
	if d.proxy, err = startProxy(d.server.dial, nil); err != nil {
		return err
	}
	defer d.proxy.close()

	if !all {
		return stopped(ctx, d.runActs(ctx, cfg))
	}
	d.leak = max(150*time.Millisecond, min(cfg.For/20, time.Second))
	d.watch = newWatcher()
	d.client, err = d.newClient(d.proxy, func(o *redis.Options) { o.PoolSize, o.MinIdleConns = poolSize, 2 },
		managed.WithLeakThreshold(d.leak), managed.WithEventHandler(d.watch.event), managed.WithMonitor(monitor.WithInterval(time.Second)))
	if err != nil {
		return err
	}
	d.screen.printf("A managed client on %s, pool of %d, %d goroutines at work, for %v. Ctrl-C ends it.\n",
		d.server.name, poolSize, workers, cfg.For)

	if cfg.HTTP != "" {
		stop, err := d.servePage(cfg.HTTP)
		if err != nil {
			_ = d.client.Close()
			return err
		}
		defer stop()
	}

	d.start = time.Now()
	d.load = startLoad(d)
	live := d.goLive()
	err = d.runPhases(ctx, phases, d.start, cfg.For)
	for cfg.Loop && err == nil && ctx.Err() == nil {
		d.notes = nil
		err = d.runPhases(ctx, phases, time.Now(), cfg.For)
	}
	d.load.stop()
	live()
	sum := d.sum(ctx)
	sum.write(d.screen)
	d.cleanUp()
	if cfg.JSON && err == nil {
		err = show.JSON(cfg.Out, sum)
	}
	if e := d.client.Close(); e != nil && err == nil {
		err = fmt.Errorf("close: %w", e)
	}
	return stopped(ctx, err)
}

// runActs is Run for the three acts.
func (d *demo) runActs(ctx context.Context, cfg Config) error {
	d.start, d.watch = time.Now(), newWatcher()
	var err error
	if d.client, err = d.newClient(d.proxy, func(*redis.Options) {}); err != nil {
		return err
	}
	defer func() { _ = d.client.Close() }()
	d.load = &load{d: d} // there is none
	defer d.cleanUp()
	if err := d.runPhases(ctx, acts, d.start, cfg.For); err != nil && ctx.Err() == nil {
		return err
	}
	d.whatNext()
	if cfg.JSON {
		return show.JSON(cfg.Out, d.sum(ctx))
	}
	return nil
}

// stopped turns what a Ctrl-C caused into nil.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// newClient makes a managed client that reaches the server through p. What it
// logs is not shown: the demo itself prints what happens.
func (d *demo) newClient(p *proxy, set func(*redis.Options), opts ...managed.Option) (*managed.Client, error) {
	opt := d.options(p)
	set(opt)
	return managed.New(opt, append([]managed.Option{managed.WithLogger(slog.New(slog.DiscardHandler))}, opts...)...)
}

// options returns the server's options, with every connection going through p.
func (d *demo) options(p *proxy) *redis.Options {
	opt := d.server.opt
	opt.TLSConfig = nil // the proxy does that
	opt.Dialer = p.dial
	return &opt
}

// goLive keeps the table up to date until the returned function is called.
func (d *demo) goLive() (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(d.screen.every)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				d.screen.draw(d.status(), d.table)
			}
		}
	}()
	return func() {
		close(done)
		<-ended
		d.screen.clear()
	}
}

// cleanUp deletes the keys of the demo on a server that outlives it.
func (d *demo) cleanUp() {
	if d.server.embedded {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	iter := d.client.Scan(ctx, 0, d.prefix+"*", 1000).Iterator()
	var keys []string
	for iter.Next(ctx) {
		keys = append(keys, iter.Val())
	}
	err := iter.Err()
	if len(keys) > 0 {
		err = errors.Join(err, d.client.Del(ctx, keys...).Err())
	}
	if err != nil {
		d.sayf("keys %s* could not be deleted: %v", d.prefix, err)
	}
}
