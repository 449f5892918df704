// Command cluster shows a managed client of a Redis Cluster: leases by key, one
// connection limit for all nodes, the pools of each node, and what happens when
// the server closes all connections.
//
//	go run ./examples/cluster                                  # starts three nodes, if redis-server is on PATH
//	go run ./examples/cluster -addrs host1:6379,host2:6379     # a cluster of yours
//
// On a cluster of yours it writes keys that begin with lifeguard:cluster: and
// deletes them, and kills only its own connections.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/examples/internal/embed"
	"github.com/lifeguard-redis/lifeguard/managed"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

const prefix = "lifeguard:cluster:"

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	flags.SetOutput(out)
	list := flags.String("addrs", "", "`host:port,...` of a cluster; without it one is started")
	program := flags.String("redis-server", "redis-server", "`program` to start nodes with; its file, or its name on PATH")
	load := flags.Duration("for", 2*time.Second, "how long the connections are cut, in step 4")
	if err := flags.Parse(args); err != nil {
		return err
	}
	addrs := strings.Split(*list, ",")
	embedded := false
	if *list == "" {
		path, err := exec.LookPath(*program)
		var stop func()
		if err == nil {
			addrs, stop, err = startNodes(ctx, path)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "A cluster of three nodes: %s\n", strings.Join(addrs, ", "))
		} else {
			fmt.Fprintf(out, "%s is not on PATH: one embedded node stands for a cluster, and step 4 is left out. Install Redis, or give -addrs, to see all of it.\n", *program)
			embedded = true
			addrs = make([]string, 1)
			if addrs[0], stop, err = embed.Server(""); err != nil {
				return err
			}
		}
		defer stop()
	}

	rdb, err := managed.NewCluster(&redis.ClusterOptions{Addrs: addrs, PoolSize: 5, PipelinePoolSize: 2},
		managed.WithConnLimit(24)) // for all nodes together; a little above the sum of their pools
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = rdb.CloseGracefully(ctx)
	}()
	c := &show{rdb: rdb, out: out}
	defer c.clean(ctx)
	steps := []func(context.Context) error{c.spread, c.lease, c.nodes}
	if !embedded {
		steps = append(steps, func(ctx context.Context) error { return c.cut(ctx, *load) })
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return ctx.Err()
}

type show struct {
	rdb *managed.ClusterClient
	out io.Writer
}

func key(i int) string { return fmt.Sprintf("%s%d", prefix, i) }

// spread writes keys to all nodes, in one pipeline and from many goroutines.
func (c *show) spread(ctx context.Context) error {
	_, err := c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range 300 {
			p.Set(ctx, key(i), i, time.Hour)
		}
		return nil
	})
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	var failed atomic.Int64
	for g := range 20 {
		all.Go(func() {
			for i := range 300 {
				if c.rdb.Get(ctx, key((g+i)%300)).Err() != nil {
					failed.Add(1)
				}
			}
		})
	}
	all.Wait()
	fmt.Fprintf(c.out, "\n1. 300 keys written in one pipeline, read by 20 goroutines: %d of 6000 reads failed, %d connections are open (limit 24)\n",
		failed.Load(), len(c.rdb.Conns()))
	return ctx.Err()
}

// lease takes one connection to the master that owns a key. Keys with the same
// {tag} are on the same node, so one transaction can use all of them.
func (c *show) lease(ctx context.Context) error {
	const from, to = prefix + "{ann}:savings", prefix + "{ann}:account"
	if err := c.rdb.MSet(ctx, from, 100, to, 0).Err(); err != nil {
		return err
	}
	err := c.rdb.AcquireFunc(managed.WithLabel(ctx, "transfer"), from, func(conn *managed.Conn) error {
		if err := conn.Do(ctx, "WATCH", from).Err(); err != nil {
			return err
		}
		have, err := conn.Get(ctx, from).Int64()
		if err != nil {
			return err
		}
		if have < 30 {
			return errors.New("not enough")
		}
		for _, l := range c.rdb.Leases() {
			fmt.Fprintf(c.out, "2. A lease on %s, taken at %s as %q, held for %v\n", l.Conn.Node, l.Site(), l.Label, l.Age.Round(time.Microsecond))
		}
		_, err = conn.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.DecrBy(ctx, from, 30)
			p.IncrBy(ctx, to, 30)
			return nil
		})
		return err
	})
	if err != nil {
		return err
	}
	balance, err := c.rdb.MGet(ctx, from, to).Result()
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "   after the transfer: savings %v, account %v\n", balance[0], balance[1])
	return nil
}

// nodes prints the pools of each node.
func (c *show) nodes(context.Context) error {
	stats := c.rdb.Stats()
	fmt.Fprintln(c.out, "3. The nodes")
	w := tabwriter.NewWriter(c.out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "   NODE\tOPEN\tIDLE\tOPENED\tCOMMANDS\tP99")
	for _, n := range stats.Nodes {
		fmt.Fprintf(w, "   %s\t%d\t%d\t%d\t%d\t%v\n", n.Name, n.Main.Open+n.Pipeline.Open, n.Main.Idle+n.Pipeline.Idle,
			n.Dialed, n.Command.Count, n.Command.P99.Round(time.Microsecond))
	}
	return w.Flush()
}

// cut kills all connections of this program on the servers, again and again while
// it works.
func (c *show) cut(ctx context.Context, d time.Duration) error {
	begin := c.rdb.RetryStats()
	ctx2, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var all sync.WaitGroup
	var reads, failed atomic.Int64
	for g := range 10 {
		all.Go(func() {
			for i := g; ctx2.Err() == nil; i++ {
				err := c.rdb.Get(ctx, key(i%300)).Err()
				reads.Add(1)
				if err != nil {
					failed.Add(1)
				}
			}
		})
	}
	cuts, ended := 0, 0
	var cutErr error
	for tick := time.NewTicker(200 * time.Millisecond); ctx2.Err() == nil; {
		select {
		case <-tick.C:
			var n int
			n, cutErr = c.killOwn(ctx)
			ended += n
			cuts++
		case <-ctx2.Done():
			tick.Stop()
		}
	}
	all.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	if ended == 0 {
		return errors.Join(errors.New("4. no connection was cut: do the servers see other addresses than we do?"), cutErr)
	}
	fmt.Fprintf(c.out, "4. All connections cut %d times, %d in all: %d of %d reads failed; %d commands were sent again\n",
		cuts, ended, failed.Load(), reads.Load(), c.rdb.RetryStats().Retries-begin.Retries)
	return nil
}

// killOwn kills our connections on all masters, and returns how many there were.
func (c *show) killOwn(ctx context.Context) (int, error) {
	perNode := map[string][]string{} // our local addresses, by node
	for _, conn := range c.rdb.Conns() {
		perNode[conn.Node] = append(perNode[conn.Node], conn.Local)
	}
	var ended atomic.Int64
	err := c.rdb.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		for _, local := range perNode[node.Options().Addr] {
			n, err := node.ClientKillByFilter(ctx, "ADDR", local, "SKIPME", "yes").Result()
			if err != nil {
				return err
			}
			ended.Add(n)
		}
		return nil
	})
	return int(ended.Load()), err
}

func (c *show) clean(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_, _ = c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range 300 {
			p.Del(ctx, key(i))
		}
		p.Del(ctx, prefix+"{ann}:savings")
		p.Del(ctx, prefix+"{ann}:account")
		return nil
	})
}
