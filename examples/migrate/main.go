// Command migrate shows what it takes to move a go-redis program to lifeguard: the
// folders before and after hold the same program and differ in two lines. It prints
// these lines, and runs both programs.
//
//	go run ./examples/migrate
package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	after "github.com/lifeguard-redis/lifeguard/examples/migrate/after"
	before "github.com/lifeguard-redis/lifeguard/examples/migrate/before"

	"github.com/lifeguard-redis/lifeguard/examples/internal/embed"
)

//go:embed before/shop.go
var textBefore string

//go:embed after/shop.go
var textAfter string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "migrate:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("migrate", flag.ContinueOnError)
	flags.SetOutput(out)
	addr := flags.String("addr", "", "`host:port` of a Redis server; without it an embedded one is used")
	if err := flags.Parse(args); err != nil {
		return err
	}
	redisAddr, stop, err := embed.Server(*addr)
	if err != nil {
		return err
	}
	defer stop()

	for _, line := range diff(textBefore, textAfter) {
		fmt.Fprintln(out, line)
	}
	var old, young bytes.Buffer
	if err := before.Run(ctx, redisAddr, &old); err != nil {
		return fmt.Errorf("before: %w", err)
	}
	if err := after.Run(ctx, redisAddr, &young); err != nil {
		return fmt.Errorf("after: %w", err)
	}
	fmt.Fprintf(out, "\nbefore:\n%s\nafter:\n%s", &old, &young)
	if old.String() != young.String() {
		return errors.New("they do not do the same")
	}
	return nil
}

// diff returns the lines that are in one text only, those of the first with a
// minus and those of the second with a plus, in order. It is enough for texts
// that hardly differ.
func diff(a, b string) (lines []string) {
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	for len(as) > 0 || len(bs) > 0 {
		switch {
		case len(as) > 0 && len(bs) > 0 && as[0] == bs[0]:
			as, bs = as[1:], bs[1:]
		case len(bs) > 1 && len(as) > 0 && bs[1] == as[0]: // one more
			lines = append(lines, "+"+bs[0])
			bs = bs[1:]
		default: // another one
			if len(as) > 0 {
				lines, as = append(lines, "-"+as[0]), as[1:]
			}
			if len(bs) > 0 {
				lines, bs = append(lines, "+"+bs[0]), bs[1:]
			}
		}
	}
	return lines
}
