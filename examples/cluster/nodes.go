package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	slots       = 16384
	formsWithin = 30 * time.Second
)

// startNodes starts three redis-server processes on loopback, makes a cluster of
// them, and returns their addresses. stop ends them and removes what they wrote.
func startNodes(ctx context.Context, program string) (addrs []string, stop func(), err error) {
	dir, err := os.MkdirTemp("", "lifeguard-cluster-")
	if err != nil {
		return nil, nil, err
	}
	var running []*exec.Cmd
	stop = func() {
		for _, cmd := range running {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		_ = os.RemoveAll(dir)
	}
	defer func() {
		if err != nil {
			stop()
		}
	}()
	for range 3 {
		port, err := freePort()
		if err != nil {
			return nil, nil, err
		}
		home, err := os.MkdirTemp(dir, "node-")
		if err != nil {
			return nil, nil, err
		}
		// Not exec.CommandContext: the client closes its connections first.
		cmd := exec.Command(program, "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", home, "--save", "",
			"--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port", strconv.Itoa(port+10000))
		cmd.Stdout, cmd.Stderr = io.Discard, io.Discard
		if err := cmd.Start(); err != nil {
			return nil, nil, fmt.Errorf("start %s: %w", program, err)
		}
		running = append(running, cmd)
		addrs = append(addrs, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	}
	ctx, cancel := context.WithTimeout(ctx, formsWithin)
	defer cancel()
	for i, addr := range addrs {
		if err := introduce(ctx, addr, addrs[0], i*slots/3, (i+1)*slots/3-1); err != nil {
			return nil, nil, fmt.Errorf("cluster node %s: %w", addr, err)
		}
	}
	for _, addr := range addrs {
		if err := settled(ctx, addr); err != nil {
			return nil, nil, fmt.Errorf("cluster node %s: %w", addr, err)
		}
	}
	return addrs, stop, nil
}

// freePort finds a free port whose port of the cluster bus is free, too.
func freePort() (int, error) {
	for range 100 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		port := ln.Addr().(*net.TCPAddr).Port
		_ = ln.Close()
		if port > 55000 {
			continue
		}
		bus, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port+10000)))
		if err == nil {
			_ = bus.Close()
			return port, nil
		}
	}
	return 0, errors.New("no free port was found")
}

// introduce gives a node its slots, and lets it meet the first one.
func introduce(ctx context.Context, addr, first string, from, to int) error {
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	defer rdb.Close()
	if err := retried(ctx, func() error { return rdb.Ping(ctx).Err() }); err != nil {
		return err
	}
	if err := rdb.ClusterAddSlotsRange(ctx, from, to).Err(); err != nil {
		return err
	}
	if addr == first {
		return nil
	}
	host, port, err := net.SplitHostPort(first)
	if err != nil {
		return err
	}
	return rdb.ClusterMeet(ctx, host, port).Err()
}

// settled waits until a node says that the cluster is complete.
func settled(ctx context.Context, addr string) error {
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	defer rdb.Close()
	return retried(ctx, func() error {
		info, err := rdb.ClusterInfo(ctx).Result()
		if err == nil && (!strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:3")) {
			err = errors.New("the cluster is not complete")
		}
		return err
	})
}

func retried(ctx context.Context, f func() error) error {
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}
