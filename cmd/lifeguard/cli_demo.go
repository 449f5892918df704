package main

import (
	"context"
	"net"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/demo"
)

// roundWithPage is how long all phases take together when the live page is served:
// long enough to look at each.
const roundWithPage = time.Minute

func demoCommand() *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "shows what a managed client does, on an embedded server or on yours",
		Description: "Three things that go wrong with connections, each with bare go-redis and with lifeguard:\n" +
			"a leak, an exhausted pool, lost replies. With --all there are ten situations under a mixed\n" +
			"load, with a live table of the connections; with --http also the live page, until Ctrl-C\n" +
			"unless --for is given. Nothing has to be installed. On a server of yours it writes keys\n" +
			"that begin with lifeguard:demo: and deletes them at the end.\n\n" +
			"Examples:\n" +
			"   lifeguard demo\n" +
			"   lifeguard demo --all --for 1m\n" +
			"   lifeguard demo -http :8080\n" +
			"   lifeguard demo --json\n" +
			"   lifeguard demo -addr localhost:6379\n" +
			"   lifeguard demo -url rediss://user:password@redis.example.com:6380/0",
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "for", Value: 10 * time.Second, Usage: "how long to run"},
			&cli.StringFlag{Name: "http", Usage: "`HOST:PORT` to serve the live page at, under /debug/redis; without a host it is localhost"},
			&cli.StringFlag{Name: "addr", Usage: "`HOST:PORT` of a server to use instead of the embedded one"},
			&cli.StringFlag{Name: "url", Usage: "`URL` of a server to use: redis://, rediss:// (TLS) or unix://"},
			&cli.BoolFlag{Name: "all", Usage: "ten situations under load, with a live table"},
			jsonFlag(),
		},
		OnUsageError: onUsageError,
		Action: func(ctx context.Context, c *cli.Command) error {
			cfg := demo.Config{For: c.Duration("for"), Addr: c.String("addr"), URL: c.String("url"), HTTP: c.String("http"), All: c.Bool("all"), Out: c.Root().Writer, JSON: c.Bool("json")}
			if c.IsSet("http") {
				if err := demo.CheckHTTP(cfg.HTTP); err != nil {
					return misuse("-http %q: %v", cfg.HTTP, err)
				}
				if !c.IsSet("for") {
					cfg.For, cfg.Loop = roundWithPage, true
				}
			}
			switch {
			case cfg.JSON && cfg.Loop:
				return misuse("--json and --http want --for, too: the summary comes at the end")
			case c.Args().Present():
				return misuse("demo takes no argument, got %q", c.Args().First())
			case cfg.For <= 0:
				return misuse("-for %v: must be above 0", cfg.For)
			case c.IsSet("addr") && c.IsSet("url"):
				return misuse("-addr and -url exclude each other")
			case c.IsSet("url"):
				if err := demo.CheckURL(cfg.URL); err != nil {
					return misuse("-url: %v", err)
				}
			case c.IsSet("addr"):
				if _, _, err := net.SplitHostPort(cfg.Addr); err != nil {
					return misuse("-addr %q: want host:port", cfg.Addr)
				}
			}
			return demo.Run(ctx, cfg)
		},
	}
}
