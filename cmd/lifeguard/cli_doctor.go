package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/redis/go-redis/v9"
	"github.com/urfave/cli/v3"

	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/doctor"
	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/show"
	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/target"
)

func doctorCommand() *cli.Command {
	const client = "The clients (what is not given is go-redis's default)"
	return &cli.Command{
		Name:  "doctor",
		Usage: "finds what is wrong with a server and with its clients' configuration",
		Description: "It reads the server's settings and numbers, measures the round trip, and compares them with\n" +
			"the configuration of your clients: pools with maxclients, idle times with the server's\n" +
			"timeout, pool sizes with the callers. Each finding has its reason and the line to change.\n" +
			"It changes nothing.\n\n" +
			"The configuration comes from the URL (?pool_size=20&conn_max_idle_time=5m), from a JSON\n" +
			"file with fields of redis.Options ({\"PoolSize\": 20, \"ConnMaxIdleTime\": \"5m\"}) and options\n" +
			"of managed (\"WithMaxAge\": \"1h\"), or from flags. Flags override the file and the URL.\n\n" +
			"Exit codes: 0 nothing worse than a note, 3 warnings, 4 something critical,\n" +
			"1 a check could not run, 2 the command line is wrong.\n\n" +
			"Examples:\n" +
			"   lifeguard doctor\n" +
			"   lifeguard doctor -u 'redis://redis.example.com:6379/0?pool_size=50' --instances 40\n" +
			"   lifeguard doctor --options client.json --concurrency 200 --rate 5000 --processors 8\n" +
			"   lifeguard doctor --managed --max-age 1h --instances 40\n" +
			"   lifeguard doctor --managed --monitor localhost:6060/debug/redis\n" +
			"   lifeguard doctor --json | jq -r '.findings[] | select(.severity != \"ok\") | .what'",
		Flags: append([]cli.Flag{
			jsonFlag(),
			&cli.StringFlag{Name: "options", Category: client, TakesFile: true, Usage: "`FILE` with options in JSON; - is standard input"},
			&cli.BoolFlag{Name: "managed", Category: client, HideDefault: true, Usage: "they are lifeguard's, not bare go-redis"},
			&cli.StringFlag{Name: "monitor", Category: client, Usage: "`URL` of the page of a running program's monitor: its pools are judged, too"},
			&cli.IntFlag{Name: "instances", Category: client, Value: 1, Usage: "`N` processes, each with such a client"},
			&cli.IntFlag{Name: "concurrency", Category: client, HideDefault: true, Usage: "`N` callers at once in each process"},
			&cli.Float64Flag{Name: "rate", Category: client, HideDefault: true, Usage: "`N` commands a second of each process"},
			&cli.IntFlag{Name: "processors", Category: client, HideDefault: true, Usage: "`N`, GOMAXPROCS of each process; default: as here"},
			&cli.IntFlag{Name: "pool-size", Category: client, HideDefault: true, Usage: "`N`, PoolSize"},
			&cli.IntFlag{Name: "pipeline-pool-size", Category: client, HideDefault: true, Usage: "`N`, PipelinePoolSize; -1: none"},
			&cli.IntFlag{Name: "blocking-pool", Category: client, HideDefault: true, Usage: "`N`, WithBlockingPool"},
			&cli.IntFlag{Name: "conn-limit", Category: client, HideDefault: true, Usage: "`N`, WithConnLimit"},
			&cli.DurationFlag{Name: "max-age", Category: client, HideDefault: true, Usage: "ConnMaxLifetime, or WithMaxAge"},
			&cli.DurationFlag{Name: "max-idle", Category: client, HideDefault: true, Usage: "ConnMaxIdleTime, or WithMaxIdle"},
			&cli.DurationFlag{Name: "heartbeat", Category: client, HideDefault: true, Usage: "WithHeartbeat"},
			&cli.DurationFlag{Name: "read-timeout", Category: client, HideDefault: true, Usage: "ReadTimeout"},
			&cli.DurationFlag{Name: "pool-timeout", Category: client, HideDefault: true, Usage: "PoolTimeout"},
		}, serverFlags()...),
		OnUsageError: onUsageError,
		Action: func(ctx context.Context, c *cli.Command) error {
			server, err := serverConfig(c)
			if err != nil {
				return err
			}
			client, err := clientConfig(c, &server)
			if err != nil {
				return err
			}
			return openServer(ctx, server, func(t *target.Target) error {
				report, err := doctor.Examine(ctx, t, client)
				if err != nil && len(report.Nodes) == 0 {
					return err
				}
				w := c.Root().Writer
				if c.Bool("json") {
					if jsonErr := show.JSON(w, report); jsonErr != nil {
						return jsonErr
					}
				} else {
					report.Print(w, show.StyleOf(w), min(max(show.Width(w, 100), 60), 120))
				}
				if err != nil {
					return fmt.Errorf("not everything could be checked: %w", err)
				}
				switch report.Worst {
				case doctor.Critical:
					return exitStatus(exitCritical)
				case doctor.Warning:
					return exitStatus(exitWarnings)
				}
				return nil
			})
		},
	}
}

// clientConfig builds the client configuration from flags, the URL and a file.
func clientConfig(c *cli.Command, server *target.Config) (doctor.Client, error) {
	out := doctor.Client{Options: &redis.Options{}, From: "go-redis's defaults", Managed: c.Bool("managed"),
		Instances: c.Int("instances"), Concurrency: c.Int("concurrency"), Rate: c.Float64("rate"), Processors: c.Int("processors"), Page: c.String("monitor")}
	if file := c.String("options"); file != "" {
		opt, set, err := readOptions(file, c.Root().Reader)
		if err != nil {
			return out, misuse("--options %s: %v", file, err)
		}
		if set != (doctor.Settings{}) {
			out.Managed = true
		}
		server.Base, out.Options, out.Set, out.From = opt, opt, set, "as in "+file
		if !c.IsSet("url") && opt.Addr != "" {
			server.URL = "" // the file says which server, not the environment
		}
	}
	if server.URL != "" {
		opt, err := target.ParseURL(server.URL)
		if err != nil {
			return out, misuse("%s is %v", server.URLName(), err)
		}
		if server.Base == nil {
			out.Options, out.From = opt, "as in "+server.URLName()
		}
	}
	given := false
	for _, f := range []struct {
		name  string
		least int
	}{{"instances", 1}, {"concurrency", 1}, {"processors", 1}, {"pool-size", 1}, {"pipeline-pool-size", -1}, {"blocking-pool", 1}, {"conn-limit", 0}} {
		if c.IsSet(f.name) && c.Int(f.name) < f.least {
			return out, misuse("--%s %d: must be %d or more", f.name, c.Int(f.name), f.least)
		}
	}
	if c.IsSet("rate") && c.Float64("rate") <= 0 {
		return out, misuse("--rate %v: must be above 0", c.Float64("rate"))
	}
	intFlag := func(name string, set func(int)) {
		if c.IsSet(name) {
			given = true
			set(c.Int(name))
		}
	}
	opt := out.Options
	intFlag("pool-size", func(n int) { opt.PoolSize = n })
	intFlag("pipeline-pool-size", func(n int) { opt.PipelinePoolSize = n })
	intFlag("blocking-pool", func(n int) { out.Set.BlockingPool, out.Managed = &n, true })
	intFlag("conn-limit", func(n int) { out.Set.ConnLimit, out.Managed = &n, true })
	for _, name := range []string{"max-age", "max-idle", "read-timeout", "pool-timeout", "heartbeat"} {
		if !c.IsSet(name) {
			continue
		}
		given = true
		d := c.Duration(name)
		if d < 0 && name != "heartbeat" {
			return out, misuse("--%s %v: must be 0 or more", name, d)
		}
		switch name {
		case "max-age":
			opt.ConnMaxLifetime, out.Set.MaxAge = d, &d
		case "max-idle":
			opt.ConnMaxIdleTime, out.Set.MaxIdle = d, &d
			if d == 0 {
				opt.ConnMaxIdleTime = -1 // go-redis replaces 0 by its default
			}
		case "read-timeout":
			opt.ReadTimeout = d
			if d == 0 {
				opt.ReadTimeout = -1
			}
		case "pool-timeout":
			opt.PoolTimeout = d
		case "heartbeat":
			out.Set.Heartbeat, out.Managed = &d, true
		}
	}
	if given {
		out.From += " and flags"
	}
	return out, nil
}

func readOptions(file string, stdin io.Reader) (*redis.Options, doctor.Settings, error) {
	if file == "-" {
		return doctor.ReadOptions(stdin)
	}
	f, err := os.Open(file)
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return nil, doctor.Settings{}, err
	}
	defer f.Close()
	return doctor.ReadOptions(f)
}
