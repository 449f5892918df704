package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/clients"
	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/show"
	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/target"
	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/top"
	"github.com/lifeguard-redis/lifeguard/monitor/fleet"
)

func topCommand() *cli.Command {
	const view = "View"
	return &cli.Command{
		Name:  "top",
		Usage: "shows a server's clients and a fleet's pools, live",
		Description: "A live view of who is connected, one by one or in groups, and of the pools of all\n" +
			"instances that publish their numbers (monitor/fleet). Keys: q quits, tab goes to the next\n" +
			"table, s and g change order and groups, / filters, K kills, ? shows all keys.\n" +
			"Without a terminal it prints one snapshot and exits, as with --once.\n\n" +
			"Examples:\n" +
			"   lifeguard top\n" +
			"   lifeguard top -h redis.example.com --tls --every 5s --sort idle\n" +
			"   lifeguard top --cluster -p 7000 --fleet checkout\n" +
			"   lifeguard top --once > clients.txt\n" +
			"   lifeguard top --json | jq '.fleet.sum'",
		Flags: append([]cli.Flag{
			jsonFlag(),
			&cli.BoolFlag{Name: "once", Category: output, HideDefault: true, Usage: "print one snapshot and exit"},
			&cli.DurationFlag{Name: "every", Category: view, Value: 2 * time.Second, Usage: "time between two updates, at least 100ms"},
			&cli.StringFlag{Name: "sort", Category: view, Usage: "`KEY`: " + strings.Join(clients.SortKeys, ", "), DefaultText: "age"},
			&cli.StringFlag{Name: "group", Aliases: []string{"g"}, Category: view, Usage: "groups by `KEY`: " + strings.Join(clients.GroupKeys, ", "), DefaultText: "name"},
			&cli.BoolFlag{Name: "reverse", Aliases: []string{"r"}, Category: view, HideDefault: true, Usage: "reverse the order"},
			&cli.StringFlag{Name: "fleet", Category: view, Value: fleet.DefaultName, Usage: "`NAME` of the fleet"},
		}, serverFlags()...),
		OnUsageError: onUsageError,
		Action: func(ctx context.Context, c *cli.Command) error {
			server, err := serverConfig(c)
			if err != nil {
				return err
			}
			every := c.Duration("every")
			v := top.View{Sort: c.String("sort"), Group: c.String("group"), Reverse: c.Bool("reverse")}
			switch {
			case every < 100*time.Millisecond:
				return misuse("--every %v: must be 100ms or more", every)
			case v.Sort != "" && !slices.Contains(clients.SortKeys, v.Sort):
				return misuse("--sort %q: must be one of %s", v.Sort, strings.Join(clients.SortKeys, ", "))
			case v.Group != "" && !slices.Contains(clients.GroupKeys, v.Group):
				return misuse("--group %q: must be one of %s", v.Group, strings.Join(clients.GroupKeys, ", "))
			}
			if v.Group != "" {
				v.Tab = top.Groups
			}
			return openServer(ctx, server, func(t *target.Target) error {
				in, out := c.Root().Reader, c.Root().Writer
				v.Style = show.StyleOf(out)
				if !c.Bool("once") && !c.Bool("json") && show.IsTerminal(in) && show.IsTerminal(out) {
					return top.Live(ctx, t, c.String("fleet"), every, v, in, out)
				}
				s, err := top.Take(ctx, t, c.String("fleet"), top.Snapshot{})
				if err != nil {
					return err
				}
				if c.Bool("json") {
					return show.JSON(out, s)
				}
				if show.IsTerminal(out) {
					v.Width = show.Width(out, 0)
				}
				_, err = fmt.Fprintln(out, strings.Join(v.Frame(s), "\n"))
				return err
			})
		},
	}
}
