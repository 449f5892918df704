package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/bench"
	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/show"
	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/target"
)

func benchCommand() *cli.Command {
	const measure = "What to measure"
	return &cli.Command{
		Name:  "bench",
		Usage: "measures a managed client beside bare go-redis, on your server",
		Description: "A bare client, a managed one and a second bare one, the control, run in turns, in short\n" +
			"slices and a drawn order, so that all meet the same conditions. Shown is the ratio within\n" +
			"the rounds with its spread, and how far two bare clients differ, which is noise.\n" +
			"Options of the URL (?pool_size=50) hold for all of them.\n\n" +
			"It puts load on the server, for --for and with --count commands at most, and writes 64\n" +
			"keys that begin with lifeguard:bench: which it deletes at the end. Ctrl-C ends it early\n" +
			"and shows what was measured.\n\n" +
			"Examples:\n" +
			"   lifeguard bench\n" +
			"   lifeguard bench -u rediss://user@redis.example.com:6380 --askpass --for 30s\n" +
			"   lifeguard bench --callers 1,16,256 --command set --size 1000\n" +
			"   lifeguard bench --adaptive --callers 64 --rounds 60\n" +
			"   lifeguard bench --count 10000 --json",
		Flags: append([]cli.Flag{
			jsonFlag(),
			&cli.DurationFlag{Name: "for", Category: measure, Value: bench.DefaultFor, Usage: "how long, in all"},
			&cli.IntFlag{Name: "count", Category: measure, HideDefault: true, Usage: "`N` commands at most, in all; default: no limit"},
			&cli.IntFlag{Name: "rounds", Category: measure, Value: bench.DefaultRounds, Usage: "`N` rounds for each number of callers"},
			&cli.IntSliceFlag{Name: "callers", Category: measure, Value: bench.DefaultCallers, Usage: "`N,N` callers at once, one line for each"},
			&cli.StringFlag{Name: "command", Category: measure, Value: "get", Usage: "`COMMAND`: " + strings.Join(bench.Commands, ", ")},
			&cli.IntFlag{Name: "size", Category: measure, Value: bench.DefaultSize, Usage: "`BYTES` of a value"},
			&cli.BoolFlag{Name: "adaptive", Category: measure, HideDefault: true, Usage: "measure Adaptive, too, which sends in batches while many are in flight"},
			&cli.IntFlag{Name: "pool-size", Category: measure, HideDefault: true, Usage: "`N`, PoolSize of all clients; default: as in the URL, else go-redis's"},
		}, serverFlags()...),
		OnUsageError: onUsageError,
		Action: func(ctx context.Context, c *cli.Command) error {
			server, err := serverConfig(c)
			if err != nil {
				return err
			}
			cfg := bench.Config{For: c.Duration("for"), Count: c.Int("count"), Rounds: c.Int("rounds"), Callers: c.IntSlice("callers"),
				Command: strings.ToLower(c.String("command")), Size: c.Int("size"), Adaptive: c.Bool("adaptive"), PoolSize: c.Int("pool-size")}
			if c.IsSet("pool-size") && cfg.PoolSize < 1 {
				return misuse("--pool-size %d: must be above 0", cfg.PoolSize)
			}
			if err := cfg.Check(); err != nil {
				return usageError{err}
			}
			return openServer(ctx, server, func(t *target.Target) error {
				w, asJSON := c.Root().Writer, c.Bool("json")
				result, err := bench.Run(ctx, t, cfg, func(r bench.Result) {
					if !asJSON {
						fmt.Fprintln(w, r.Header(cfg, show.StyleOf(w)))
					}
				}, func(l bench.Line) {
					if !asJSON {
						fmt.Fprintln(w, l)
					}
				})
				switch {
				case err != nil:
					return err
				case asJSON:
					return show.JSON(w, result)
				}
				_, err = fmt.Fprint(w, result.Footer(cfg))
				return err
			})
		},
	}
}
