package managed_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"reflect"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// sameOptions compares all fields; of functions, whether they are there.
func sameOptions(t *testing.T, want, got any) {
	t.Helper()
	w, g := reflect.ValueOf(want).Elem(), reflect.ValueOf(got).Elem()
	for i := range w.NumField() {
		f := w.Type().Field(i)
		switch {
		case !f.IsExported():
		case f.Name == "PushNotificationProcessor":
			require.True(t, g.Field(i).IsNil(), "one that a client has used is of no use to another")
		case f.Type.Kind() == reflect.Func:
			require.Equal(t, w.Field(i).IsNil(), g.Field(i).IsNil(), f.Name)
		default:
			require.Equal(t, w.Field(i).Interface(), g.Field(i).Interface(), f.Name)
		}
	}
}

type limitless struct{}

func (limitless) Allow() error       { return nil }
func (limitless) ReportResult(error) {}

func TestOptionsAreThoseOfABareClientAndNothingOfOurs(t *testing.T) {
	errAsked := errors.New("the user's own")
	full := &redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialerRetries: 2, ConnMaxIdleTime: -1, ConnMaxLifetime: time.Hour,
		ConnMaxLifetimeJitter: 2 * time.Hour, ReadBufferSize: 100, WriteBufferSize: 10, PipelineReadBufferSize: 100, PipelineWriteBufferSize: 10,
		PoolSize: 3, PoolFIFO: true, ReadTimeout: -1, TLSConfig: &tls.Config{}, Limiter: limitless{}, DB: 2,
		Dialer:                     func(context.Context, string, string) (net.Conn, error) { return nil, errAsked },
		OnConnect:                  func(context.Context, *redis.Conn) error { return errAsked },
		CredentialsProviderContext: func(context.Context) (string, string, error) { return "", "", errAsked }}
	buffers := managed.WithBuffers(managed.Buffers{Read: 1024, Write: 1024, PipelineRead: 2048, PipelineWrite: 2048})
	for _, opt := range []*redis.Options{{}, {Addr: "127.0.0.1:1", Protocol: 2, MaxRetries: 5}, full} {
		bare := redis.NewClient(opt)
		defer bare.Close()
		c := client(t, opt, buffers, managed.WithMaxIdle(time.Second))
		sameOptions(t, bare.Options(), c.Options())
		require.Same(t, c.Options(), c.Options())
		clone, other := bare.WithTimeout(7*time.Second), c.WithTimeout(7*time.Second)
		sameOptions(t, clone.Options(), other.Options())
	}
	got := client(t, full).Options()
	_, err := got.Dialer(t.Context(), "tcp", "")
	require.Equal(t, errAsked, err)
	require.Equal(t, errAsked, got.OnConnect(t.Context(), nil))
	_, _, err = got.CredentialsProviderContext(t.Context())
	require.Equal(t, errAsked, err)
}

func TestOptionsOfAClusterOfARingAndOfSentinelsAreThoseOfABareClient(t *testing.T) {
	for _, opt := range []*redis.ClusterOptions{{Addrs: []string{"127.0.0.1:1"}}, {Addrs: []string{"127.0.0.1:1"}, MaxRetries: 3}} {
		bare := redis.NewClusterClient(opt)
		defer bare.Close()
		sameOptions(t, bare.Options(), clusterClient(t, opt).Options())
	}
	for _, opt := range []*redis.RingOptions{{}, {MaxRetries: -1, HeartbeatFrequency: time.Hour}} {
		bare, r := redis.NewRing(opt), managed.NewRing(opt)
		defer bare.Close()
		defer r.Close()
		sameOptions(t, bare.Options(), r.Options())
	}
	for _, opt := range []*redis.FailoverOptions{{MasterName: "m", SentinelAddrs: []string{"127.0.0.1:1"}},
		{MasterName: "m", SentinelAddrs: []string{"127.0.0.1:1"}, MaxRetries: 2, DialerRetries: 3, ReadBufferSize: 4096, ConnMaxIdleTime: time.Minute}} {
		bare, c := redis.NewFailoverClient(opt), managed.NewFailoverClient(opt)
		defer bare.Close()
		defer c.Close()
		sameOptions(t, bare.Options(), c.Options())
		bareCluster, cluster := redis.NewFailoverClusterClient(opt), managed.NewFailoverClusterClient(opt)
		defer bareCluster.Close()
		defer cluster.Close()
		sameOptions(t, bareCluster.Options(), cluster.Options())
	}
}

func TestAClientMadeOfAnothersOptionsIsIndependentOfIt(t *testing.T) {
	opt := redistest.Options(t)
	c := client(t, opt)
	require.NoError(t, c.Ping(t.Context()).Err())
	o := *c.Options()
	o.DB = 3
	second, bare := client(t, &o), redis.NewClient(&o)
	defer bare.Close()
	require.NoError(t, second.Ping(t.Context()).Err())
	require.NoError(t, bare.Ping(t.Context()).Err())
	require.Len(t, c.Conns(), 1, "its own")
	require.Len(t, second.Conns(), 1)
	require.NoError(t, c.Close())
	require.NoError(t, second.Set(t.Context(), "k", "v", 0).Err())
	require.NoError(t, bare.Get(t.Context(), "k").Err())
	require.NoError(t, second.Close())
}

func TestAClientCanBeMadeOfTheOptionsOfAnyOtherClient(t *testing.T) {
	for _, opt := range []*redis.Options{{}, {ConnMaxLifetime: -1, ConnMaxIdleTime: -1, ReadTimeout: -2, WriteTimeout: -1, MinRetryBackoff: -1, MaxRetryBackoff: -1, MaxRetries: -1, DialerRetries: -1, PipelinePoolSize: -1}} {
		bare, c := redis.NewClient(opt), client(t, opt)
		defer bare.Close()
		for _, filled := range []*redis.Options{bare.Options(), c.Options()} {
			again := *filled
			again.PushNotificationProcessor = nil
			second, err := managed.New(&again, managed.WithLogger(quiet))
			require.NoError(t, err)
			require.NoError(t, second.Close())
		}
	}
}
