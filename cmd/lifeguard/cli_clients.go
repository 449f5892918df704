package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/clients"
	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/show"
	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/target"
	"github.com/lifeguard-redis/lifeguard/monitor/fleet"
	"github.com/lifeguard-redis/lifeguard/serverside"
)

func clientsCommand() *cli.Command {
	const which, kill = "Which clients", "Closing them"
	return &cli.Command{
		Name:  "clients",
		Usage: "lists who is connected to a server, and closes connections that should not be there",
		Description: "A table of the server's connections, by age, or counted in groups. The command's own\n" +
			"connections are left out. With --kill it closes those that are too old, idle for too long,\n" +
			"or fit the filter: it lists them and asks; scripts give --yes. --dry-run only lists them.\n" +
			"It never closes replication links, and those of Sentinels or of slot migration\n" +
			"only with --include-servers.\n\n" +
			"Examples:\n" +
			"   lifeguard clients\n" +
			"   lifeguard clients -h redis.example.com -p 6380 --tls --user ops --askpass\n" +
			"   lifeguard clients --group lib\n" +
			"   lifeguard clients --sort idle --min-idle 10m --name 'web-*'\n" +
			"   lifeguard clients --json | jq '.clients[].addr'\n" +
			"   lifeguard clients --kill --max-age 1h --dry-run\n" +
			"   lifeguard clients --kill --max-idle 30m --client-user ci --spare-name 'web-*' --yes",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "sort", Category: output, Usage: "`KEY`: " + strings.Join(clients.SortKeys, ", "), DefaultText: "age"},
			&cli.BoolFlag{Name: "reverse", Aliases: []string{"r"}, Category: output, HideDefault: true, Usage: "reverse the order"},
			&cli.StringFlag{Name: "group", Aliases: []string{"g"}, Category: output, Usage: "count by `KEY`: " + strings.Join(clients.GroupKeys, ", ")},
			&cli.IntFlag{Name: "limit", Category: output, HideDefault: true, Usage: "show `N` lines at most; default: all"},
			jsonFlag(),
			&cli.StringFlag{Name: "client-user", Category: which, Usage: "ACL `USER` they are connected as"},
			&cli.StringFlag{Name: "name", Category: which, Usage: "`PATTERN` of the name, with * and ?"},
			&cli.StringFlag{Name: "lib", Category: which, Usage: "`PATTERN` of the library's name, with * and ? (Redis 7.2, Valkey)"},
			&cli.StringFlag{Name: "addr", Category: which, Usage: "`IP`, subnet 10.0.0.0/8, or ip:port"},
			&cli.StringFlag{Name: "type", Category: which, Usage: "`TYPE`: normal, pubsub, replica, master"},
			&cli.Int64Flag{Name: "client-db", Category: which, HideDefault: true, Usage: "`NUMBER` of the database they use"},
			&cli.DurationFlag{Name: "min-age", Category: which, HideDefault: true, Usage: "connected for this long (1h, 30m, 90s) or longer"},
			&cli.DurationFlag{Name: "min-idle", Category: which, HideDefault: true, Usage: "sent nothing for this long or longer"},
			&cli.BoolFlag{Name: "kill", Category: kill, HideDefault: true, Usage: "close them, after a question; needs --max-age, --max-idle or a filter that says whose"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Category: kill, HideDefault: true, Usage: "do not ask; scripts need it"},
			&cli.DurationFlag{Name: "max-age", Category: kill, HideDefault: true, Usage: "close those that are this old or older"},
			&cli.DurationFlag{Name: "max-idle", Category: kill, HideDefault: true, Usage: "close those that sent nothing for this long; not those that wait for the server"},
			&cli.BoolFlag{Name: "dry-run", Category: kill, HideDefault: true, Usage: "say which, and close nothing"},
			&cli.StringSliceFlag{Name: "spare-name", Category: kill, Usage: "`PATTERN` of names to spare; may be given several times"},
			&cli.StringFlag{Name: "spare-fleet", Category: kill, Usage: "spare the living instances of the fleet `NAME` (\"" + fleet.DefaultName + "\" unless they say otherwise)"},
			&cli.BoolFlag{Name: "include-servers", Category: kill, HideDefault: true, Usage: "also connections of Sentinels, of slot migration and in MONITOR; needs --name"},
			&cli.IntFlag{Name: "per-second", Category: kill, HideDefault: true, Usage: "close `N` a second at most; default: 50"},
		}, serverFlags()...),
		OnUsageError: onUsageError,
		Action: func(ctx context.Context, c *cli.Command) error {
			server, err := serverConfig(c)
			if err != nil {
				return err
			}
			cfg := clients.Config{
				Filter: serverside.Filter{User: c.String("client-user"), Name: c.String("name"), Library: c.String("lib"), Addr: c.String("addr"),
					Type: serverside.Type(c.String("type")), MinAge: c.Duration("min-age"), MinIdle: c.Duration("min-idle")},
				Sort: c.String("sort"), Reverse: c.Bool("reverse"), Group: c.String("group"), Limit: c.Int("limit"), JSON: c.Bool("json"),
				Kill: c.Bool("kill"), MaxAge: c.Duration("max-age"), MaxIdle: c.Duration("max-idle"), DryRun: c.Bool("dry-run"),
				SpareNames: c.StringSlice("spare-name"), SpareFleet: c.String("spare-fleet"), PerSecond: c.Int("per-second"),
				IncludeServers: c.Bool("include-servers"),
			}
			cfg.Note = func(text string) { fmt.Fprintln(c.Root().ErrWriter, text) }
			if c.IsSet("client-db") {
				cfg.Filter.DB = []int64{c.Int64("client-db")}
			}
			for _, name := range []string{"min-age", "min-idle", "max-age", "max-idle"} {
				if c.IsSet(name) && c.Duration(name) <= 0 {
					return misuse("--%s %v: must be above 0", name, c.Duration(name))
				}
			}
			if c.IsSet("per-second") && cfg.PerSecond <= 0 {
				return misuse("--per-second %d: must be above 0", cfg.PerSecond)
			}
			if err := cfg.Check(); err != nil {
				return usageError{err}
			}
			if c.IsSet("yes") && !cfg.Kill {
				return misuse("--yes is for --kill")
			}
			if cfg.Kill && !cfg.DryRun && !c.Bool("yes") {
				in, out := c.Root().Reader, c.Root().ErrWriter
				if !show.IsTerminal(in) || !show.IsTerminal(out) {
					return misuse("--kill asks before it closes anything, and there is no terminal to ask on: see which with --dry-run, then give --yes")
				}
				cfg.Confirm = func(question string) (bool, error) { return confirm(ctx, in, out, question) }
			}
			return openServer(ctx, server, func(t *target.Target) error { return clients.Run(ctx, t, cfg, c.Root().Writer) })
		},
	}
}

// confirm asks a question; only "y" and "yes" mean yes. It waits no longer than ctx.
func confirm(ctx context.Context, in io.Reader, out io.Writer, question string) (bool, error) {
	fmt.Fprint(out, question+" [y/N] ")
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(in).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case a := <-answer:
		return a == "y" || a == "yes", nil
	case <-ctx.Done():
		fmt.Fprintln(out)
		return false, nil
	}
}
