package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"
	"golang.org/x/term"

	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/target"
)

// Categories of flags in the help.
const (
	toServer = "Which server (names as in redis-cli)"
	output   = "Output"
)

// serverFlags select the server that a command talks to, under redis-cli's names.
func serverFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "url", Aliases: []string{"u"}, Category: toServer, Usage: "`URL`: redis://user:password@host:port/db, rediss:// (TLS), unix:///path; default: REDIS_URL"},
		&cli.StringFlag{Name: "host", Category: toServer, Usage: "`HOST`, also -h HOST; default: 127.0.0.1"},
		&cli.IntFlag{Name: "port", Aliases: []string{"p"}, Category: toServer, HideDefault: true, Usage: "`PORT`; default: 6379"},
		&cli.StringFlag{Name: "socket", Aliases: []string{"s"}, Category: toServer, Usage: "`PATH` of a Unix socket"},
		&cli.StringFlag{Name: "user", Category: toServer, Usage: "`NAME` of the ACL user to connect as"},
		&cli.StringFlag{Name: "pass", Aliases: []string{"a"}, Category: toServer, Usage: "`PASSWORD`; others can see it in the list of processes: better set REDISCLI_AUTH, or use --askpass"},
		&cli.BoolFlag{Name: "askpass", Category: toServer, HideDefault: true, Usage: "ask for the password"},
		&cli.IntFlag{Name: "db", Aliases: []string{"n"}, Category: toServer, HideDefault: true, Usage: "`NUMBER` of the database"},
		&cli.BoolFlag{Name: "cluster", Aliases: []string{"c"}, Category: toServer, HideDefault: true, Usage: "all nodes of the cluster that the server belongs to"},
		&cli.BoolFlag{Name: "tls", Category: toServer, HideDefault: true, Usage: "speak TLS"},
		&cli.StringFlag{Name: "cacert", Category: toServer, TakesFile: true, Usage: "`FILE` of the authorities to trust, in PEM; default: the system's"},
		&cli.StringFlag{Name: "cert", Category: toServer, TakesFile: true, Usage: "`FILE` of the client's certificate, in PEM"},
		&cli.StringFlag{Name: "key", Category: toServer, TakesFile: true, Usage: "`FILE` of the client's private key, in PEM"},
		&cli.StringFlag{Name: "sni", Category: toServer, Usage: "`NAME` to ask for, and to find in the server's certificate"},
		&cli.BoolFlag{Name: "insecure", Category: toServer, HideDefault: true, Usage: "do not check the server's certificate"},
		&cli.DurationFlag{Name: "timeout", Category: toServer, Value: target.DefaultTimeout, Usage: "how long the server may take to connect and to answer"},
	}
}

func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Category: output, HideDefault: true, Usage: "JSON instead of text"}
}

// commandsOfServers are those that have serverFlags.
var commandsOfServers = []string{"doctor", "clients", "top", "bench"}

// asInRedisCLI makes -h behave as in redis-cli: as the last argument it means help, otherwise the
// host follows.
func asInRedisCLI(args []string) []string {
	if len(args) < 2 || !slices.Contains(commandsOfServers, args[1]) {
		return args
	}
	args = slices.Clone(args)
	for i := 2; i < len(args)-1; i++ {
		if args[i] == "-h" && !strings.HasPrefix(args[i+1], "-") {
			args[i] = "--host"
		}
	}
	return args
}

// serverConfig builds the configuration from flags and environment.
func serverConfig(c *cli.Command) (target.Config, error) {
	cfg := target.Config{
		URL: c.String("url"), Host: c.String("host"), Port: c.Int("port"), Socket: c.String("socket"),
		User: c.String("user"), Pass: c.String("pass"), DB: c.Int("db"), SetDB: c.IsSet("db"),
		TLS: c.Bool("tls"), CACert: c.String("cacert"), Cert: c.String("cert"), Key: c.String("key"), SNI: c.String("sni"),
		Insecure: c.Bool("insecure"), Cluster: c.Bool("cluster"), Timeout: c.Duration("timeout"),
	}
	switch {
	case c.Args().Present():
		return cfg, misuse("%s takes no argument, got %q", c.Name, c.Args().First())
	case c.IsSet("timeout") && cfg.Timeout <= 0:
		return cfg, misuse("--timeout %v: must be above 0", cfg.Timeout)
	case c.IsSet("port") && cfg.Port < 1:
		return cfg, misuse("--port %d: must be 1 to 65535", cfg.Port)
	case c.IsSet("askpass") && c.IsSet("pass"):
		return cfg, misuse("--askpass and --pass exclude each other")
	case c.IsSet("url") && cfg.URL == "":
		return cfg, misuse("--url: is empty")
	}
	// A server on the command line takes precedence over the environment, and the environment's
	// password is then not sent to it.
	if !c.IsSet("url") && !c.IsSet("host") && !c.IsSet("port") && !c.IsSet("socket") {
		cfg.URL, cfg.URLFrom = os.Getenv("REDIS_URL"), "REDIS_URL"
	}
	if c.Bool("askpass") {
		pass, err := askPassword(c.Root().Reader, c.Root().ErrWriter)
		if err != nil {
			return cfg, err
		}
		cfg.Pass = pass
	} else if cfg.Pass == "" && !urlHasPassword(cfg.URL) {
		cfg.Pass = os.Getenv("REDISCLI_AUTH")
	}
	return cfg, nil
}

func urlHasPassword(raw string) bool {
	if raw == "" {
		return false
	}
	opt, err := target.ParseURL(raw)
	return err == nil && opt.Password != ""
}

// askPassword prompts on the terminal, without echo; elsewhere it reads a line.
func askPassword(in io.Reader, out io.Writer) (string, error) {
	f, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		line, err := bufio.NewReader(in).ReadString('\n')
		if err != nil && (!errors.Is(err, io.EOF) || line == "") {
			return "", fmt.Errorf("--askpass: no password was given: %w", err)
		}
		return strings.TrimRight(line, "\r\n"), nil
	}
	fmt.Fprint(out, "Password: ")
	pass, err := term.ReadPassword(int(f.Fd()))
	fmt.Fprintln(out)
	if err != nil {
		return "", fmt.Errorf("--askpass: %w", err)
	}
	return string(pass), nil
}

// openServer checks the configuration, connects and runs fn.
func openServer(ctx context.Context, cfg target.Config, fn func(*target.Target) error) error {
	if _, err := cfg.Options(); err != nil {
		return usageError{err}
	}
	if cfg.Cluster && cfg.SetDB && cfg.DB != 0 {
		return misuse("--db %d: a cluster has database 0 only", cfg.DB)
	}
	t, err := target.Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer t.Close()
	return fn(t)
}
