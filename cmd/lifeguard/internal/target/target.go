package target

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/lifeguard-redis/lifeguard/serverside"
)

// Target is a server, or a cluster, with a connection to it. It is safe for
// concurrent use.
type Target struct {
	redis.UniversalClient
	Name    string         // its address
	Cluster bool           // use all nodes
	Options *redis.Options // as configured

	mark string // in lib-name of our own connections
	mu   sync.Mutex
	own  map[string]bool // local addresses of our own connections
}

// Open connects, and checks that the server replies. Its errors are written for people; see
// Explain.
func Open(ctx context.Context, c Config) (*Target, error) {
	said, err := c.Options()
	if err != nil {
		return nil, err
	}
	timeout := c.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	t := &Target{Name: said.Addr, Cluster: c.Cluster, Options: said, own: map[string]bool{}, mark: "lifeguard-" + rand.Text()[:8]}
	opt := redis.Options{
		Network: said.Network, Addr: said.Addr, Username: said.Username, Password: said.Password, DB: said.DB,
		TLSConfig: said.TLSConfig, Protocol: said.Protocol,
		DialTimeout: timeout, ReadTimeout: timeout, WriteTimeout: timeout, ContextTimeoutEnabled: true,
		DialerRetries: 1, MaxRetries: -1, PoolSize: 4, PipelinePoolSize: -1, IdentitySuffix: t.mark,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	dial := redis.NewDialer(&opt)
	opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err == nil {
			t.mu.Lock()
			t.own[conn.LocalAddr().String()] = true
			t.mu.Unlock()
		}
		return conn, err
	}
	if c.Cluster {
		if opt.DB != 0 {
			return nil, errors.New("--cluster: a cluster has database 0 only")
		}
		t.UniversalClient = redis.NewClusterClient(ClusterOptions(&opt))
	} else {
		t.UniversalClient = redis.NewClient(&opt)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := t.hello(ctx); err != nil {
		_ = t.Close()
		if hungUp(err) && said.TLSConfig == nil {
			if text := greeting(ctx, said); text != "" {
				err = errors.New(text)
			}
		}
		name := t.Name
		if c.URL != "" && c.URLFrom != "" {
			name += " (from " + c.URLFrom + ")"
		}
		return nil, Explain(err, name, opt.TLSConfig != nil)
	}
	return t, nil
}

// hello checks that the server replies. A refusal of PING counts as a reply.
func (t *Target) hello(ctx context.Context) error {
	err := t.Ping(ctx).Err()
	if redis.IsPermissionError(err) {
		return nil
	}
	return err
}

// hungUp reports whether the other side closed the connection instead of answering.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// greeting returns the error that the server sends to a new connection before it closes it, for
// example in protected mode. A client that is sending meanwhile may miss it.
func greeting(ctx context.Context, opt *redis.Options) string {
	conn, err := (&net.Dialer{}).DialContext(ctx, cmp.Or(opt.Network, "tcp"), opt.Addr)
	if err != nil {
		return ""
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(greetingWithin))
	line, _ := bufio.NewReader(io.LimitReader(conn, 4096)).ReadString('\n')
	text, refused := strings.CutPrefix(strings.TrimSpace(line), "-")
	if !refused {
		return ""
	}
	return text
}

// greetingWithin is how long a server may take to refuse a connection.
const greetingWithin = 500 * time.Millisecond

// ClusterOptions returns the options of the cluster that the server belongs to.
func ClusterOptions(o *redis.Options) *redis.ClusterOptions {
	return &redis.ClusterOptions{
		Addrs: []string{o.Addr}, Username: o.Username, Password: o.Password, TLSConfig: o.TLSConfig, Protocol: o.Protocol,
		Dialer: o.Dialer, ClientName: o.ClientName, DialTimeout: o.DialTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
		ContextTimeoutEnabled: o.ContextTimeoutEnabled, DialerRetries: o.DialerRetries, MaxRetries: o.MaxRetries,
		PoolSize: o.PoolSize, PipelinePoolSize: o.PipelinePoolSize, MinIdleConns: o.MinIdleConns, MaxIdleConns: o.MaxIdleConns,
		PoolTimeout: o.PoolTimeout, ConnMaxIdleTime: o.ConnMaxIdleTime, ConnMaxLifetime: o.ConnMaxLifetime,
		IdentitySuffix: o.IdentitySuffix, MaintNotificationsConfig: o.MaintNotificationsConfig,
	}
}

// Own reports whether a client is a connection of this Target.
func (t *Target) Own(c serverside.Client) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.own[c.Addr] || strings.Contains(c.LibName, t.mark)
}

// Clients lists the clients of all nodes, without our own connections. Like serverside.List it
// returns partial results together with an error.
func (t *Target) Clients(ctx context.Context, f serverside.Filter) ([]serverside.Client, error) {
	all, err := serverside.List(ctx, t.UniversalClient, f)
	others := all[:0]
	for _, c := range all {
		if !t.Own(c) {
			others = append(others, c)
		}
	}
	if err != nil {
		err = t.Explain(err)
	}
	return others, err
}

// EachNode calls fn for every node, or for the one server.
func (t *Target) EachNode(ctx context.Context, fn func(ctx context.Context, node *redis.Client) error) error {
	switch c := t.UniversalClient.(type) {
	case *redis.Client:
		return fn(ctx, c)
	case *redis.ClusterClient:
		return c.ForEachShard(ctx, fn)
	}
	return fmt.Errorf("a client of type %T has no nodes", t.UniversalClient)
}

// Explain adds an explanation to an error; see the function.
func (t *Target) Explain(err error) error { return Explain(err, t.Name, t.Options.TLSConfig != nil) }

// FailedError is a failure of the server or on the way to it, explained.
type FailedError struct {
	What string // what is wrong
	Err  error
	addr string // the server that What names
}

func (e *FailedError) Error() string {
	return e.What + ": " + strings.Replace(cause(e.Err), "lifeguard/monitor/server: sample of "+e.addr+": ", "", 1)
}

// cause is an error's text without the address, which What names.
func cause(err error) string {
	text := err.Error()
	var op *net.OpError // of a dial, a read or a write
	if !errors.As(err, &op) || op.Err == nil {
		return text
	}
	why := op.Err.Error()
	var name *net.DNSError
	var call *os.SyscallError
	switch {
	case errors.As(op.Err, &name):
		why = name.Err // "no such host"
	case errors.As(op.Err, &call):
		why = call.Err.Error()
	}
	return strings.Replace(text, op.Error(), why, 1)
}

func (e *FailedError) Unwrap() error { return e.Err }

// Explain prefixes an error with what is wrong and what to do about it. It shows no password, and
// neither do go-redis's errors.
func Explain(err error, addr string, tls bool) error {
	var already *FailedError
	if err == nil || errors.As(err, &already) || errors.Is(err, context.Canceled) {
		return err
	}
	text := err.Error()
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(text, p) {
				return true
			}
		}
		return false
	}
	say := func(format string, args ...any) error {
		return &FailedError{What: fmt.Sprintf(format, args...), Err: err, addr: addr}
	}
	var netErr net.Error
	switch {
	case has("WRONGPASS", "invalid username-password"):
		return say("%s does not accept the user or the password", addr)
	case has("NOAUTH"):
		return say("%s wants a password: set REDISCLI_AUTH, or use --askpass, and --user if it is not for the default user", addr)
	case has("called without any password configured"):
		return say("%s has no password for this user, and one was given", addr)
	case errors.Is(err, serverside.ErrDenied), redis.IsPermissionError(err):
		return say("%s does not let this user do that; ACL SETUSER <user> +<command> gives the right", addr)
	case has("max number of clients"):
		return say("%s has no room for another client: raise maxclients, or close some from a connection that is open", addr)
	case has("MOVED ", "CROSSSLOT"):
		return say("%s belongs to a cluster: use --cluster", addr)
	case has("cluster support disabled"):
		return say("%s does not belong to a cluster: leave out --cluster", addr)
	case has("does not look like a TLS handshake"):
		return say("%s does not speak TLS at this port: leave out --tls, or give its TLS port", addr)
	case has("x509:", "tls: failed to verify"):
		return say("the certificate of %s is not accepted: give its authority with --cacert, its name with --sni, or do without the check with --insecure", addr)
	case has("certificate required", "bad certificate", "handshake failure"):
		return say("%s wants a certificate: give --cert and --key", addr)
	case has("DENIED Redis is running in protected mode", "DENIED Valkey is running in protected mode"):
		return &FailedError{What: addr, Err: errors.New("protected mode: without a password the server takes connections from its own host only; set a password (requirepass, or an ACL user), or connect from there")}
	case has("redis: cluster has no nodes"):
		return say("%s knows no node that serves slots: create the cluster with redis-cli --cluster create, or mend it with redis-cli --cluster fix", addr)
	case has("can't parse", "invalid reply"):
		return say("%s does not speak the protocol of Redis; is it the right port?", addr)
	case has("LOADING"):
		return say("%s is loading its data: try again when it is done", addr)
	case !tls && has("EOF", "connection reset", "broken pipe", "malformed HTTP"):
		return say("%s closed the connection; if that port speaks TLS, give --tls", addr)
	case tls && errors.Is(err, context.DeadlineExceeded):
		return say("no answer from %s; if it does not speak TLS there, leave out --tls", addr)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr), has("connection refused"):
		return say("no answer from %s", addr)
	}
	return say("%s answered with an error", addr)
}

// RoundTrips measures how long PINGs take on a connection that is already in use: n of them, for at
// most d in total.
func RoundTrips(ctx context.Context, node *redis.Client, n int, d time.Duration) ([]time.Duration, error) {
	conn := node.Conn() // one connection: waits for others are not the network's
	defer conn.Close()
	if err := conn.Ping(ctx).Err(); err != nil {
		return nil, err
	}
	all := make([]time.Duration, 0, n)
	for end := time.Now().Add(d); len(all) < n && time.Now().Before(end); {
		began := time.Now()
		if err := conn.Ping(ctx).Err(); err != nil {
			return all, err
		}
		all = append(all, time.Since(began))
	}
	return all, nil
}
