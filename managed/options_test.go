package managed_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

func TestInvalidOptionsAreRefusedByNameAndValue(t *testing.T) {
	const neg = -7 * time.Second
	for want, x := range map[string]struct {
		opt  *redis.Options
		opts []managed.Option
	}{
		"Options: nil":               {nil, nil},
		"PoolSize: -3":               {&redis.Options{PoolSize: -3}, nil},
		"MinIdleConns: -3":           {&redis.Options{MinIdleConns: -3}, nil},
		"MaxIdleConns: -3":           {&redis.Options{MaxIdleConns: -3}, nil},
		"MaxActiveConns: -3":         {&redis.Options{MaxActiveConns: -3}, nil},
		"MaxRetries: -2":             {&redis.Options{MaxRetries: -2}, nil},
		"DB: -1":                     {&redis.Options{DB: -1}, nil},
		"ReadBufferSize: -1":         {&redis.Options{ReadBufferSize: -1}, nil},
		"WriteBufferSize: -1":        {&redis.Options{WriteBufferSize: -1}, nil},
		"MaxConcurrentDials: -1":     {&redis.Options{MaxConcurrentDials: -1}, nil},
		"Protocol: 4":                {&redis.Options{Protocol: 4}, nil},
		"Protocol: 1":                {&redis.Options{Protocol: 1}, nil},
		"DialTimeout: -7s":           {&redis.Options{DialTimeout: neg}, nil},
		"PoolTimeout: -7s":           {&redis.Options{PoolTimeout: neg}, nil},
		"ReadTimeout: -7s":           {&redis.Options{ReadTimeout: neg}, nil},
		"WriteTimeout: -7s":          {&redis.Options{WriteTimeout: neg}, nil},
		"MinRetryBackoff: -7s":       {&redis.Options{MinRetryBackoff: neg}, nil},
		"MaxRetryBackoff: -7s":       {&redis.Options{MaxRetryBackoff: neg}, nil},
		"ConnMaxLifetimeJitter: -7s": {&redis.Options{ConnMaxLifetimeJitter: neg}, nil},
		"MinIdleConns: 9":            {&redis.Options{PoolSize: 8, MinIdleConns: 9}, nil},
		"MinIdleConns: 5":            {&redis.Options{MaxIdleConns: 4, MinIdleConns: 5}, nil},
		"MinIdleConns: 6":            {&redis.Options{MaxActiveConns: 5, MinIdleConns: 6}, nil},
		"MinRetryBackoff: 2s":        {&redis.Options{MinRetryBackoff: 2 * time.Second, MaxRetryBackoff: time.Second}, nil},
		"go-redis refuses":           {&redis.Options{PoolSize: 1 << 40}, nil},
		"a nil Option":               {&redis.Options{}, []managed.Option{nil}},
		"WithLeaseStacks(5)":         {&redis.Options{}, []managed.Option{managed.WithLeaseStacks(5)}},
		"WithLeaseStacks(-1)":        {&redis.Options{}, []managed.Option{managed.WithLeaseStacks(-1)}},
		"WithAcquireTimeout(-7s)":    {&redis.Options{}, []managed.Option{managed.WithAcquireTimeout(neg)}},
	} {
		t.Run(want, func(t *testing.T) {
			c, err := managed.New(x.opt, x.opts...)
			require.Nil(t, c)
			require.ErrorContains(t, err, want)
			require.True(t, strings.HasPrefix(err.Error(), "lifeguard/managed: "), err)
			require.PanicsWithError(t, err.Error(), func() { managed.NewClient(x.opt, x.opts...) })
		})
	}
}

func TestDefaultsAndSpecialValuesAreTaken(t *testing.T) {
	s := redistest.Start(t)
	for name, opt := range map[string]*redis.Options{
		"nothing but the address":     {},
		"no timeouts":                 {ReadTimeout: -1, WriteTimeout: -1},
		"no deadlines at all":         {ReadTimeout: -2, WriteTimeout: -2},
		"no retries":                  {MaxRetries: -1},
		"no backoff":                  {MinRetryBackoff: -1, MaxRetryBackoff: -1},
		"connections are kept":        {ConnMaxIdleTime: -1, ConnMaxLifetime: -1},
		"no pipeline pool":            {PipelinePoolSize: -1},
		"tiny buffers":                {ReadBufferSize: 16, WriteBufferSize: 16, PipelineReadBufferSize: 16, PipelineWriteBufferSize: 16},
		"equal buffers":               {ReadBufferSize: 1 << 16, PipelineReadBufferSize: 1 << 16},
		"ctx timeouts":                {ContextTimeoutEnabled: true},
		"minimum of idle connections": {PoolSize: 4, MinIdleConns: 2},
		"no identity":                 {DisableIdentity: true},
		"a name":                      {ClientName: "me"},
		"another database":            {DB: 5},
		"one dial at a time":          {MaxConcurrentDials: 1},
	} {
		t.Run(name, func(t *testing.T) {
			opt.Addr = s.Addr()
			if opt.PoolSize == 0 {
				opt.PoolSize = 4
			}
			c := client(t, opt)
			ctx := t.Context()
			require.NoError(t, c.Set(ctx, "k", "v", 0).Err())
			_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "k"); p.Get(ctx, "k"); return nil })
			require.NoError(t, err)
			conn, err := c.Acquire(ctx)
			require.NoError(t, err)
			require.Equal(t, "v", conn.Get(ctx, "k").Val())
			conn.Release()
			full(t, c, 4)
		})
	}
}

func TestOpenSaysWhatWhereAndWhy(t *testing.T) {
	s := redistest.Start(t, "--requirepass", "right")
	ctx := t.Context()
	c, err := managed.Open(ctx, "redis://:right@"+s.Addr()+"/3", managed.WithLogger(quiet))
	require.NoError(t, err)
	require.Equal(t, 3, own(t, s, c).DB)
	require.NoError(t, c.Close())

	refused, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	nobody := refused.Addr().String()
	refused.Close()
	for _, x := range []struct{ name, url, where, why string }{
		{"wrong password", "redis://:hush@" + s.Addr(), s.Addr(), "WRONGPASS"},
		{"no password", "redis://" + s.Addr(), s.Addr(), "NOAUTH"},
		{"unreachable", "redis://:hush@" + nobody, nobody, "refused"},
		{"TLS to a plain port", "rediss://:hush@" + s.Addr(), s.Addr(), ""},
		{"no such socket", "unix:///no/such/socket", "/no/such/socket", "no such file"},
		{"no such database", "redis://:right@" + s.Addr() + "/1000", s.Addr(), "DB index"},
	} {
		t.Run(x.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
			defer cancel()
			start := time.Now()
			_, err := managed.Open(ctx, x.url, managed.WithLogger(quiet))
			require.Less(t, time.Since(start), soon)
			require.ErrorContains(t, err, "lifeguard/managed: open")
			require.Equal(t, 1, strings.Count(err.Error(), x.where), "it names the address once: %v", err)
			require.ErrorContains(t, err, x.why)
			require.NotContains(t, err.Error(), "hush")
			t.Log(err)
		})
	}
	redistest.Eventually(t, "nothing is left open", soon, func() bool { return s.NumClients(t) == 0 })
}

func TestOpenIsBoundedByItsCtx(t *testing.T) {
	s := redistest.Start(t)
	s.Admin().Ping(t.Context())
	s.Pause()
	defer s.Resume()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := managed.Open(ctx, "redis://"+s.Addr(), managed.WithLogger(quiet))
	require.Error(t, err)
	require.ErrorContains(t, err, s.Addr())
	require.ErrorIs(t, err, context.DeadlineExceeded)
	t.Logf("after %v: %v", time.Since(start), err)
	require.Less(t, time.Since(start), 2*time.Second, "go-redis's DialTimeout is 5 s")
}

func TestAServerWithATrustedCertificateIsNeeded(t *testing.T) {
	s := redistest.StartTLS(t)
	opt := s.Options()
	opt.TLSConfig = &tls.Config{ServerName: "localhost"} // the system's authorities
	c := client(t, opt)
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	_, err := c.TryAcquire(ctx)
	require.ErrorContains(t, err, s.Addr())
	require.ErrorContains(t, err, "certificate")
}

// Passwords, and what a careless program makes of them: nothing is escaped.
var passwords = []string{"jqzx", "jq:zx", "jq/zx", "jq@zx", "jq#zx", "jq?zx", "jq%zx", "jq%zzzx", "jq zx", "@jqzx", ":jqzx", "/jqzx", "#jqzx",
	"?jqzx", "%jqzx", "jqzx@", "jqzx/", "jqzx:", "jqzx#", "jqzx?", "jqzx%", "jq[zx", "jq]zx", "jq\\zx", "jq\nzx", "jq\x00zx", "jq@zx:99999",
	"jq/zx@x", "jq?db=zx", "jq#zx@", "a@b:c/d?e#jqzx", "6379/jqzx", "jüzx", "jq&zx=x", "jq;zx", "jqzx@host:6379/notadb", "jq=zx"}

// pieces are the parts of a password that must not be seen: what stands between
// the characters that may cut it.
func pieces(password string) []string {
	out := []string{password}
	for _, p := range strings.FieldsFunc(password, func(r rune) bool { return strings.ContainsRune(":/@#?%&=; \\[]\n\x00", r) }) {
		if strings.Contains("jqzx", p) && len(p) >= 2 || p == "jüzx" {
			out = append(out, p)
		}
	}
	return out
}

func TestAMalformedURLNeverShowsItsPassword(t *testing.T) {
	refused, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	nobody := refused.Addr().String()
	refused.Close()
	seen := 0
	for _, p := range passwords {
		for _, form := range []string{
			"redis://:%s@" + nobody, "redis://user:%s@" + nobody + "/1", "redis://%s@" + nobody, "rediss://:%s@" + nobody,
			"redis://:%s@" + nobody + "/notanumber", "redis://:%s@" + nobody + "/1/2", "redis://:%s@" + nobody + "?no_such=1",
			"redis://:%s@" + nobody + "?pool_size=x", "redis://:%s@" + nobody + "?dial_timeout=x", "redis://:%s@" + nobody + "?db=x",
			"redis://:%s@" + nobody + ":port", "redis://:%s@[::1", "http://:%s@" + nobody, "%s", "%s://" + nobody, ":%s@" + nobody,
			"//:%s@" + nobody, "user:%s@" + nobody, "unix://:%s@", "unix://:%s@/no/such?x=1", "redis:%s@" + nobody, "redis:/:%s@" + nobody,
			"redis://" + nobody + "?password=%s", "redis://" + nobody + "/%s", "redis://" + nobody + "?%s", "redis://" + nobody + "#%s",
			"redis://:%s@" + nobody + "?pool_size=-1", " redis://:%s@" + nobody,
		} {
			for _, escape := range []func(string) string{func(s string) string { return s }, url.QueryEscape, url.PathEscape} {
				u := strings.Replace(form, "%s", escape(p), 1)
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				_, errOpen := managed.Open(ctx, u, managed.WithLogger(quiet))
				cancel()
				c, errShared := managed.Shared(u, managed.WithLogger(quiet))
				if errShared == nil {
					require.NoError(t, c.Close())
				}
				for _, err := range []error{errOpen, errShared} {
					if err == nil {
						continue
					}
					seen++
					text := strings.ToLower(err.Error() + fmt.Sprintf("%+v %#v", err, err))
					// The ways of a valid URL to name its host and database are no passwords.
					if valid, perr := redis.ParseURL(u); perr == nil {
						text = strings.ReplaceAll(text, strings.ToLower(valid.Addr), "")
					}
					for _, piece := range append(pieces(p), url.QueryEscape(p)) {
						if len(piece) > 1 {
							assert.NotContainsf(t, text, strings.ToLower(piece), "Open(%q): %v", u, err)
						}
					}
				}
			}
		}
	}
	require.Greater(t, seen, 1000)
	for _, bad := range []string{"", "redis", "localhost:6379", "http://localhost", "redis://localhost/x", "redis://localhost?x=1", "::", "redis://a b"} {
		_, err := managed.Open(t.Context(), bad, managed.WithLogger(quiet))
		require.ErrorContains(t, err, "lifeguard/managed: malformed URL", bad)
	}
}

// FuzzOpen: whatever the URL, the error of Open does not show what stands where
// the password is meant to be.
func FuzzOpen(f *testing.F) {
	for _, p := range passwords {
		f.Add("redis://:", p, "@127.0.0.1:1/0?pool_size=1")
		f.Add("redis://user:", p, "@127.0.0.1:1/x")
		f.Add("unix://:", p, "@/no/such/socket")
	}
	f.Fuzz(func(t *testing.T, before, password, after string) {
		// One that is a word of every message, or of the rest of the URL, shows nothing.
		marked := "QJX" + password + "XJQ"
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // nothing is dialed
		urls := []string{"redis://:" + marked + "@127.0.0.1:1" + after, "redis://u:" + marked + "@127.0.0.1:1/" + after}
		if _, user, ok := strings.Cut(before, "://"); ok && strings.Contains(user, ":") && strings.Contains(after, "@") {
			urls = append(urls, before+marked+after) // it stands where a password does
		}
		for _, u := range urls {
			c, err := managed.Open(ctx, u, managed.WithLogger(quiet))
			if err == nil {
				_ = c.Close()
				continue
			}
			text := strings.ToUpper(err.Error())
			if opt, perr := redis.ParseURL(u); perr == nil && strings.Contains(strings.ToUpper(opt.Addr), "QJX") {
				continue // the URL is valid and says that this is its host
			}
			if strings.Contains(text, "QJX") || strings.Contains(text, "XJQ") {
				t.Errorf("Open(%q) shows the password: %v", u, err)
			}
		}
	})
}

func TestSuggestPoolSizeIsTheSmallerOfDemandAndProcessors(t *testing.T) {
	most := 2*runtime.GOMAXPROCS(0) + 1
	for in, want := range map[int]int{-5: 1, 0: 1, 1: 1, 2: 2, most: most, most + 1: most, 1 << 30: most} {
		require.Equal(t, want, managed.SuggestPoolSize(in), "SuggestPoolSize(%d)", in)
	}
}
