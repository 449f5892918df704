package lifeguard_test

import (
	"go/ast"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/fleet"
	"github.com/lifeguard-redis/lifeguard/retry"
	"github.com/lifeguard-redis/lifeguard/serverside"
)

func TestNilIsTheDefaultInEveryOption(t *testing.T) {
	m, err := monitor.New(monitor.FromClient(redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})))
	require.NoError(t, err)
	defer m.Close()
	ofManaged := func(o managed.Option) error {
		c, err := managed.New(&redis.Options{Addr: "127.0.0.1:1"}, o)
		if err == nil {
			err = c.Close()
		}
		return err
	}
	ofMonitor := func(o monitor.Option) error {
		x, err := monitor.New(monitor.FromClient(redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})), o)
		if err == nil {
			err = x.Close()
		}
		return err
	}
	ofReaper := func(o serverside.Option) error {
		_, err := serverside.NewReaper(redis.NewClient(&redis.Options{}), serverside.Policy{User: "x", MaxAge: 1e9}, o)
		return err
	}
	ofRetry := func(o retry.Option) error { retry.NewHook(retry.Default(), o); return nil }
	given := map[string]error{
		"managed WithLogger":          ofManaged(managed.WithLogger(nil)),
		"managed WithEventHandler":    ofManaged(managed.WithEventHandler(nil)),
		"monitor WithLogger":          ofMonitor(monitor.WithLogger(nil)),
		"monitor WithStatsHandler":    ofMonitor(monitor.WithStatsHandler(nil)),
		"monitor WithAlertHandler":    ofMonitor(monitor.WithAlertHandler(nil)),
		"serverside WithLogger":       ofReaper(serverside.WithLogger(nil)),
		"serverside WithKillHandler":  ofReaper(serverside.WithKillHandler(nil)),
		"serverside WithSweepHandler": ofReaper(serverside.WithSweepHandler(nil)),
		"retry WithLogger":            ofRetry(retry.WithLogger(nil)),
		"retry WithBreakerHandler":    ofRetry(retry.WithBreakerHandler(nil)),
	}
	_, given["monitor/fleet WithLogger"] = fleet.NewMembers(redis.NewClient(&redis.Options{}), fleet.WithLogger(nil))
	for option, err := range given {
		require.NoError(t, err, option)
	}
	for _, dir := range libraries {
		for _, f := range source(t, dir) {
			for _, d := range f.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if !ok || fn.Recv != nil || fn.Type.Results == nil || len(fn.Type.Results.List) != 1 {
					continue
				}
				if id, ok := fn.Type.Results.List[0].Type.(*ast.Ident); !ok || id.Name != "Option" || !fn.Name.IsExported() {
					continue
				}
				require.True(t, strings.HasPrefix(fn.Name.Name, "With"), "%s.%s: options say With", dir, fn.Name.Name)
				for _, p := range fn.Type.Params.List {
					switch p.Type.(type) {
					case *ast.FuncType, *ast.StarExpr:
						require.Contains(t, given, dir+" "+fn.Name.Name, "an option that takes nil")
					}
				}
			}
		}
	}
}
