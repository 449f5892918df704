package integration_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	tclog "github.com/testcontainers/testcontainers-go/log"
	"github.com/testcontainers/testcontainers-go/wait"
)

const (
	probeTimeout = 5 * time.Second // an engine on this machine answers in milliseconds
	startTimeout = 2 * time.Minute // an image may have to be pulled
)

func image() string { return cmp.Or(os.Getenv("LIFEGUARD_REDIS_IMAGE"), "redis:8") }

// startContainer is the redistest.Provider that runs Redis in a container.
func startContainer() (url string, stop func(), err error) {
	if os.Getenv("LIFEGUARD_NO_CONTAINER") == "true" {
		return "", nil, errors.New("containers are turned off by LIFEGUARD_NO_CONTAINER")
	}
	tclog.SetDefault(quiet{}) // its banner says nothing about the tests
	if _, err := within(probeTimeout, probe); err != nil {
		return "", nil, fmt.Errorf("no container engine answers: %w", err)
	}
	c, err := within(startTimeout, run)
	if err != nil {
		return "", nil, fmt.Errorf("no container of image %s (LIFEGUARD_REDIS_IMAGE): %w", image(), err)
	}
	return c.url, c.stop, nil
}

// started is a running container.
type started struct {
	url  string
	stop func()
}

func probe(ctx context.Context) (version string, err error) {
	c, err := testcontainers.NewDockerClientWithOpts(ctx)
	if err != nil {
		return "", err
	}
	defer c.Close()
	info, err := c.Info(ctx, client.InfoOptions{})
	return info.Info.ServerVersion, err
}

func run(ctx context.Context) (started, error) {
	c, err := testcontainers.Run(ctx, image(),
		testcontainers.WithExposedPorts("6379/tcp"),
		testcontainers.WithWaitStrategyAndDeadline(30*time.Second,
			wait.ForLog("Ready to accept connections"),
			wait.ForListeningPort("6379/tcp").SkipInternalCheck(),
		),
	)
	stop := func() { testcontainers.TerminateContainer(c, testcontainers.StopTimeout(0)) }
	if err != nil {
		stop()
		return started{}, err
	}
	url, err := c.PortEndpoint(ctx, "6379/tcp", "redis")
	if err != nil {
		stop()
		return started{}, err
	}
	return started{url, stop}, nil
}

// within runs f, for d at most. testcontainers panics where it finds no engine,
// and one that hangs must not take the tests with it.
func within[T any](d time.Duration, f func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	type result struct {
		v   T
		err error
	}
	ended := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			if p := recover(); p != nil {
				r.err = fmt.Errorf("panic: %v", p)
			}
			ended <- r
		}()
		r.v, r.err = f(ctx)
	}()
	var r result
	select {
	case r = <-ended:
	case <-time.After(d + 5*time.Second): // ctx had its chance
		r.err = fmt.Errorf("nothing within %v", d)
	}
	return r.v, r.err
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}
