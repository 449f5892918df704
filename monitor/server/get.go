package server

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/errtext"
	"github.com/lifeguard-redis/lifeguard/monitor/internal/refusal"
)

// ErrManyNodes: Get was given a client of several nodes, each of which has its own numbers. Use
// GetAll for those.
var ErrManyNodes = errors.New("lifeguard/monitor/server: a client of several nodes: use GetAll")

// Getter is the part of a client that this package needs: *redis.Client, *redis.Conn, and types
// that embed them. GetAll accepts *redis.ClusterClient and *redis.Ring as well.
type Getter interface {
	Pipeline() redis.Pipeliner
}

type sharded interface {
	ForEachShard(ctx context.Context, fn func(context.Context, *redis.Client) error) error
}

// settings are read with CONFIG GET, one by one: servers before 7.0 accept only one name.
var settings = []string{"maxclients", "timeout", "tcp-keepalive", "maxmemory"}

// Get samples one server, in one round trip. What the server does not report is unknown, and Gaps
// says why: that is not an error. An error means that the server did not reply (it is unreachable,
// has no room for another client, or does not accept the password), or that rdb is not the client
// of one server ([ErrManyNodes]); then nothing is known. Safe for concurrent use.
func Get(ctx context.Context, rdb Getter) (Sample, error) {
	if err := check(rdb); err != nil {
		return Sample{}, err
	}
	if _, many := rdb.(sharded); many {
		return Sample{}, ErrManyNodes
	}
	return get(ctx, rdb)
}

// GetAll samples every node of a cluster or ring, including replicas, one after the other; for any
// other client its one server. It returns the samples it got together with the errors of the nodes
// that did not reply.
func GetAll(ctx context.Context, rdb Getter) ([]Sample, error) {
	if err := check(rdb); err != nil {
		return nil, err
	}
	s, many := rdb.(sharded)
	if !many {
		one, err := get(ctx, rdb)
		if err != nil {
			return nil, err
		}
		return []Sample{one}, nil
	}
	var mu sync.Mutex
	var all []Sample
	var errs []error
	err := s.ForEachShard(ctx, func(ctx context.Context, c *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		one, err := get(ctx, c)
		if err != nil {
			errs = append(errs, err)
			return nil
		}
		all = append(all, one)
		return nil
	})
	if err != nil {
		errs = append(errs, fmt.Errorf("lifeguard/monitor/server: list of nodes: %w", err))
	}
	return all, errors.Join(errs...)
}

// Watch calls fn with a sample of each node, or the error, at once and then every period (10 % more
// or less) until ctx ends, and returns ctx.Err(). It starts no goroutine of its own: while fn
// blocks no samples are taken, and a panic in fn is not recovered. every must be positive.
func Watch(ctx context.Context, rdb Getter, every time.Duration, fn func([]Sample, error)) error {
	if err := check(rdb); err != nil {
		return err
	}
	if every <= 0 {
		return fmt.Errorf("lifeguard/monitor/server: every: %v: must be positive", every)
	}
	if fn == nil {
		return errors.New("lifeguard/monitor/server: the function is nil")
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		fn(GetAll(ctx, rdb))
		t := time.NewTimer(time.Duration((0.9 + 0.2*rand.Float64()) * float64(every)))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

func check(rdb Getter) error {
	if rdb != nil {
		if v := reflect.ValueOf(rdb); v.Kind() != reflect.Pointer || !v.IsNil() {
			return nil
		}
	}
	return errors.New("lifeguard/monitor/server: the client is nil")
}

func get(ctx context.Context, rdb Getter) (Sample, error) {
	s, err := ask(ctx, rdb)
	if err != nil {
		return Sample{}, fmt.Errorf("lifeguard/monitor/server: sample of %s: %w", nodeOf(rdb), refusal.Cause(rdb, err))
	}
	return s, nil
}

func ask(ctx context.Context, rdb Getter) (Sample, error) {
	s := Sample{Node: nodeOf(rdb)}
	pipe := rdb.Pipeline()
	infoCmd := pipe.Do(ctx, "INFO")
	configs := make([]*redis.MapStringStringCmd, len(settings))
	for i, name := range settings {
		configs[i] = pipe.ConfigGet(ctx, name)
	}
	_, err := pipe.Exec(ctx)
	s.At = time.Now()
	if err != nil && infoCmd.Err() == nil && infoCmd.Val() == nil {
		// Only Exec returns the error of a failed handshake; the commands do not.
		return Sample{}, err
	}

	text, err := infoCmd.Text()
	if err := unanswered(err); err != nil {
		return Sample{}, err
	}
	if err != nil {
		s.gap("INFO", err)
	} else {
		s.readInfo(text)
	}
	for i, name := range settings {
		reply, err := configs[i].Result()
		if err := unanswered(err); err != nil {
			return Sample{}, err
		}
		s.readConfig(name, reply, err)
	}
	return s, nil
}

// unanswered returns err unless it is a reply to a command: nothing came, or the server refused the
// connection.
func unanswered(err error) error {
	var answer redis.Error
	switch {
	case err == nil:
		return nil
	case redis.IsAuthError(err), redis.IsMaxClientsError(err):
	case errors.As(err, &answer):
		return nil
	}
	return err
}

func (s *Sample) readInfo(reply string) {
	r := &reader{info: parseInfo(reply)}
	s.Version, s.Product = r.text("redis_version"), r.text("server_name")
	if v := r.text("valkey_version"); v.Known {
		s.Version, s.Product = v, Some(s.Product.Or("valkey"))
	} else if s.Version.Known && !s.Product.Known {
		s.Product = Some("redis")
	}
	s.Mode = r.text("redis_mode")
	if !s.Mode.Known {
		s.Mode = r.text("server_mode") // Valkey
	}
	s.Role, s.RunID = r.text("role"), r.text("run_id")
	s.Uptime = r.seconds("uptime_in_seconds")
	s.Replicas = r.count("connected_slaves")
	s.ConnectedClients = r.count("connected_clients")
	s.BlockedClients = r.count("blocked_clients")
	s.PubSubClients = r.count("pubsub_clients")
	s.TrackingClients = r.count("tracking_clients")
	s.WatchingClients = r.count("watching_clients")
	s.ClusterConnections = r.count("cluster_connections")
	s.TotalConnections = r.count("total_connections_received")
	s.RejectedConnections = r.count("rejected_connections")
	s.EvictedClients = r.count("evicted_clients")
	s.QueryBufferKills = r.count("client_query_buffer_limit_disconnections")
	s.OutputBufferKills = r.count("client_output_buffer_limit_disconnections")
	s.MaxClients = r.count("maxclients")
	s.UsedMemory = r.count("used_memory")
	s.MaxMemory, s.MaxMemoryPolicy = r.count("maxmemory"), r.text("maxmemory_policy")
	s.ClientMemory = r.count("mem_clients_normal")
	s.ReplicaClientMemory = r.count("mem_clients_slaves")

	if len(r.unreadable) > 0 {
		s.Gaps = append(s.Gaps, Gap{Source: "INFO", Why: "cannot be read: " + strings.Join(r.unreadable, ", ")})
	}
	if r.malformed > 0 {
		s.Gaps = append(s.Gaps, Gap{Source: "INFO", Why: fmt.Sprintf("%s cannot be read", errtext.Count(r.malformed, "line"))})
	}
}

// readConfig reads a setting. A value from INFO takes precedence.
func (s *Sample) readConfig(name string, reply map[string]string, err error) {
	source := "CONFIG GET " + name
	var count *Opt[int64]
	var period *Opt[time.Duration]
	switch name {
	case "maxclients":
		count = &s.MaxClients
	case "maxmemory":
		count = &s.MaxMemory
	case "timeout":
		period = &s.Timeout
	case "tcp-keepalive":
		period = &s.TCPKeepAlive
	}
	if count != nil && count.Known {
		return
	}
	if err != nil {
		s.gap(source, err)
		return
	}
	value, ok := reply[name]
	if !ok {
		s.Gaps = append(s.Gaps, Gap{Source: source, Why: "the server has no such setting"})
		return
	}
	n, ok := number(value)
	if ok && period != nil {
		period.Val, ok = seconds(n)
		period.Known = ok
	} else if ok {
		*count = Some(n)
	}
	if !ok {
		s.Gaps = append(s.Gaps, Gap{Source: source, Why: fmt.Sprintf("cannot be read: %.40q", value)})
	}
}

func (s *Sample) gap(source string, err error) {
	text := strings.TrimSpace(err.Error())
	s.Gaps = append(s.Gaps, Gap{Source: source, Why: text, Denied: redis.IsPermissionError(err) ||
		redis.IsAuthError(err) || strings.HasPrefix(text, "ERR unknown command") ||
		strings.HasPrefix(strings.ToLower(text), "err unknown subcommand")})
}

func nodeOf(rdb Getter) string {
	if a, ok := rdb.(interface{ Options() *redis.Options }); ok {
		if o := a.Options(); o != nil {
			return o.Addr
		}
	}
	return ""
}
