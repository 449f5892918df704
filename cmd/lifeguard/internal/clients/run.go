package clients

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/show"
	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/target"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
	"github.com/lifeguard-redis/lifeguard/serverside"
)

// Config says what to show, or which clients to close.
type Config struct {
	Filter  serverside.Filter
	Sort    string // of SortKeys; "" is age
	Reverse bool
	Group   string // of GroupKeys; "" shows each client
	Limit   int    // lines at most; 0: all
	JSON    bool

	Kill       bool
	MaxAge     time.Duration // with Kill
	MaxIdle    time.Duration // with Kill
	DryRun     bool
	SpareNames []string
	SpareFleet string // name of the fleet whose living members are spared
	// IncludeServers also closes connections of servers, selected by Name.
	IncludeServers bool
	PerSecond      int // 0: serverside.DefaultPerSecond

	Note func(string) // called with what is waited for, and which clients are selected; nil: none
	// Confirm asks for confirmation, with Kill and without DryRun; nil: no confirmation.
	Confirm func(question string) (bool, error)
}

// Check returns an error that names the invalid flag and the reason.
func (c Config) Check() error {
	switch {
	case c.Sort != "" && !slices.Contains(SortKeys, c.Sort):
		return fmt.Errorf("--sort %q: must be one of %s", c.Sort, strings.Join(SortKeys, ", "))
	case c.Group != "" && !slices.Contains(GroupKeys, c.Group):
		return fmt.Errorf("--group %q: must be one of %s", c.Group, strings.Join(GroupKeys, ", "))
	case c.Group != "" && c.Sort != "":
		return errors.New("--sort and --group exclude each other: the largest group comes first, the smallest with --reverse")
	case c.Limit < 0:
		return fmt.Errorf("--limit %d: must be 0 (all) or more", c.Limit)
	case !c.Kill && (c.MaxAge != 0 || c.MaxIdle != 0):
		return errors.New("--max-age and --max-idle are for --kill; to list use --min-age and --min-idle")
	case !c.Kill && (c.DryRun || len(c.SpareNames) > 0 || c.SpareFleet != "" || c.PerSecond != 0 || c.IncludeServers):
		return errors.New("--dry-run, --spare-name, --spare-fleet, --include-servers and --per-second are for --kill")
	case !c.Kill:
		return wrap(c.Filter.Validate())
	case c.Filter.MinAge != 0 || c.Filter.MinIdle != 0:
		return errors.New("with --kill use --max-age and --max-idle instead of --min-age and --min-idle")
	case len(c.Filter.DB) > 0:
		return errors.New("--kill does not know --client-db")
	case c.Group != "" || c.Sort != "" || c.Reverse || c.Limit != 0:
		return errors.New("--sort, --reverse, --group and --limit are for the list, not for --kill")
	case c.MaxAge < 0:
		return fmt.Errorf("--max-age %v: must be above 0", c.MaxAge)
	case c.MaxIdle < 0:
		return fmt.Errorf("--max-idle %v: must be above 0", c.MaxIdle)
	case c.PerSecond < 0:
		return fmt.Errorf("--per-second %d: must be above 0", c.PerSecond)
	case c.MaxAge == 0 && c.MaxIdle == 0 && c.everybody():
		return errors.New("--kill alone would close every connection, and so would --kill --type: narrow it down by --max-age, --max-idle, --client-user, --name, --lib or --addr")
	case c.IncludeServers && c.Filter.Name == "":
		return errors.New("--include-servers needs --name: say which of them")
	}
	return wrap(c.policy().Validate())
}

var fieldsAreFlags = strings.NewReplacer("lifeguard/serverside: ", "", "Policy.User", "--client-user", "Policy.Name", "--name",
	"Policy.Library", "--lib", "Policy.Addr", "--addr", "Policy.Type", "--type", "Policy.MaxAge", "--max-age", "Policy.MaxIdle", "--max-idle",
	"Filter.User", "--client-user", "Filter.Name", "--name", "Filter.Library", "--lib", "Filter.Addr", "--addr", "Filter.Type", "--type",
	"Filter.MinAge", "--min-age", "Filter.MinIdle", "--min-idle", "Filter.DB", "--client-db")

// wrap turns an error of serverside, which names fields, into one that names flags.
func wrap(err error) error {
	if err == nil {
		return nil
	}
	return errors.New(fieldsAreFlags.Replace(err.Error()))
}

func (c Config) filtered() bool {
	f := c.Filter
	return f.User != "" || f.Name != "" || f.Library != "" || f.Addr != "" || f.Type != ""
}

func (c Config) policy() serverside.Policy {
	f := c.Filter
	p := serverside.Policy{MaxAge: c.MaxAge, MaxIdle: c.MaxIdle, User: f.User, Name: f.Name, Library: f.Library, Addr: f.Addr, Type: f.Type,
		DryRun: c.DryRun, PerSecond: c.PerSecond}
	if p.MaxAge == 0 && p.MaxIdle == 0 {
		p.MaxAge = time.Second // the filter selects the clients; those connected within the last second are spared
	}
	p.Everybody, p.IncludeServers = c.everybody(), c.IncludeServers
	return p
}

// everybody reports whether no option selects the clients.
func (c Config) everybody() bool {
	f := c.Filter
	return f.User == "" && f.Name == "" && f.Library == "" && f.Addr == ""
}

// Run shows the clients, or closes them.
func Run(ctx context.Context, t *target.Target, c Config, w io.Writer) error {
	if c.Kill {
		return kill(ctx, t, c, w)
	}
	all, err := t.Clients(ctx, c.Filter)
	if err != nil && len(all) == 0 {
		return err
	}
	if c.Sort == "" {
		c.Sort = "age"
	}
	Sort(all, c.Sort, c.Reverse)
	total := len(all)
	if c.Group != "" {
		groups := Groups(all, c.Group)
		if c.Reverse {
			slices.Reverse(groups)
		}
		return errors.Join(showGroups(t.Name, groups, total, c, w), err)
	}
	if c.Limit > 0 {
		all = all[:min(c.Limit, len(all))]
	}
	if c.JSON {
		if all == nil {
			all = []serverside.Client{}
		}
		return errors.Join(show.JSON(w, map[string]any{"server": t.Name, "total": total, "clients": all}), err)
	}
	style := show.StyleOf(w)
	if total == 0 {
		if err == nil {
			fmt.Fprintf(w, "No client%s is connected to %s.\n", c.which(), t.Name)
		}
		return err
	}
	printTable(w, style, Table(all, Layout{Nodes: t.Cluster, Sort: c.Sort, Reverse: c.Reverse, Width: show.Width(w, 0)}))
	summary := errtext.Count(total, "client")
	if len(all) < total {
		summary = fmt.Sprintf("%d of %s", len(all), summary)
	}
	fmt.Fprintf(w, "\n%s, by %s.\n", summary, c.Sort)
	return err
}

func printTable(w io.Writer, style show.Style, lines []string) {
	fmt.Fprintln(w, style.Bold(lines[0]))
	for _, l := range lines[1:] {
		fmt.Fprintln(w, l)
	}
}

func (c Config) which() string {
	if c.filtered() || c.Filter.MinAge > 0 || c.Filter.MinIdle > 0 || len(c.Filter.DB) > 0 {
		return " that fits"
	}
	return " but this one"
}

func showGroups(server string, groups []Group, total int, c Config, w io.Writer) error {
	n := len(groups)
	if c.Limit > 0 {
		groups = groups[:min(c.Limit, len(groups))]
	}
	if c.JSON {
		return show.JSON(w, map[string]any{"server": server, "total": total, "by": c.Group, "groups": groups})
	}
	if total == 0 {
		fmt.Fprintf(w, "No client%s is connected to %s.\n", c.which(), server)
		return nil
	}
	printTable(w, show.StyleOf(w), GroupTable(groups, c.Group, show.Width(w, 0)))
	fmt.Fprintf(w, "\n%s in %s, by %s.\n", errtext.Count(total, "client"), errtext.Count(n, "group"), c.Group)
	return nil
}
