package demo

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/target"
)

// server is what the demo runs on.
type server struct {
	name     string
	embedded bool
	opt      redis.Options
	dial     func(ctx context.Context) (net.Conn, error) // straight to it, TLS included
	close    func()
}

// answerWithin bounds how long a server may take to show that it is there.
const answerWithin = 3 * time.Second

func startServer(ctx context.Context, cfg Config) (*server, error) {
	s := &server{close: func() {}}
	switch {
	case cfg.URL != "":
		opt, err := target.ParseURL(cfg.URL)
		if err != nil {
			return nil, err
		}
		s.opt, s.name = *opt, opt.Addr
	case cfg.Addr != "":
		s.opt, s.name = redis.Options{Addr: cfg.Addr}, cfg.Addr
	default:
		m := miniredis.NewMiniRedis()
		if err := m.Start(); err != nil {
			return nil, fmt.Errorf("demo: embedded server: %w", err)
		}
		s.opt, s.name, s.embedded, s.close = redis.Options{Addr: m.Addr()}, "an embedded server", true, m.Close
	}
	s.opt.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}

	// go-redis fills in what a dialer needs (network, time-outs).
	full := s.opt
	full.DialTimeout, full.DialerRetries, full.MaxRetries = answerWithin, 1, -1
	probe := redis.NewClient(&full)
	defer probe.Close()
	dialOpt := *probe.Options()
	dialOpt.Dialer = nil
	dial := redis.NewDialer(&dialOpt)
	s.dial = func(ctx context.Context) (net.Conn, error) { return dial(ctx, dialOpt.Network, dialOpt.Addr) }

	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	if err := probe.Ping(ctx).Err(); err != nil {
		s.close()
		return nil, fmt.Errorf("demo: no answer from %s: %w", s.name, err)
	}
	return s, nil
}

// CheckURL checks whether a URL can be used. Its error shows no part of it: any
// of them might be a password.
func CheckURL(raw string) error {
	_, err := target.ParseURL(raw)
	return err
}
