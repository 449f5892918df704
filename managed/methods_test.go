package managed_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"

	"github.com/lifeguard-redis/lifeguard/managed"
)

// otherSignatures are the methods that have another signature than in go-redis, and why.
// No other may.
var otherSignatures = map[string]string{
	"Client.WithTimeout": "it returns a managed client, so that the clone has leases and the rest; *redis.Client is inside of it",
}

// overridden are the methods of go-redis that are not its own, and why. All of them mean
// what they mean there.
var overridden = map[string]string{
	"Client.AddHook":           "hooks run around what is done here about a call",
	"Client.Close":             "ends what is ours, too",
	"Client.Options":           "as they were given",
	"Client.Subscribe":         "ends with its ctx",
	"Client.PSubscribe":        "ends with its ctx",
	"Client.SSubscribe":        "ends with its ctx",
	"Client.Watch":             "repeated until the function is entered, and waited for by CloseGracefully",
	"Client.WithTimeout":       "see otherSignatures",
	"ClusterClient.AddHook":    "as Client's",
	"ClusterClient.Close":      "as Client's",
	"ClusterClient.Options":    "as Client's",
	"ClusterClient.Subscribe":  "as Client's",
	"ClusterClient.PSubscribe": "as Client's",
	"ClusterClient.SSubscribe": "as Client's",
	"ClusterClient.Watch":      "as Client's",
	"Ring.AddHook":             "as Client's",
	"Ring.Close":               "as Client's",
	"Ring.Options":             "as Client's",
	"Ring.Subscribe":           "as Client's",
	"Ring.PSubscribe":          "as Client's",
	"Ring.SSubscribe":          "as Client's",
	"Ring.Watch":               "as Client's",
}

func TestTheMethodsOfManagedClientsAreThoseOfGoRedisWithFewExceptions(t *testing.T) {
	for _, c := range []struct{ ours, theirs reflect.Type }{
		{reflect.TypeFor[*managed.Client](), reflect.TypeFor[*redis.Client]()},
		{reflect.TypeFor[*managed.ClusterClient](), reflect.TypeFor[*redis.ClusterClient]()},
		{reflect.TypeFor[*managed.Ring](), reflect.TypeFor[*redis.Ring]()},
	} {
		kind := c.ours.Elem().Name()
		for i := range c.theirs.NumMethod() {
			theirs := c.theirs.Method(i)
			ours, ok := c.ours.MethodByName(theirs.Name)
			if !assert.True(t, ok, "%s has no %s: two embedded types have one?", kind, theirs.Name) {
				continue
			}
			if _, listed := otherSignatures[kind+"."+theirs.Name]; !listed {
				assert.Equal(t, signature(theirs), signature(ours), "%s.%s", kind, theirs.Name)
			} else {
				assert.NotEqual(t, signature(theirs), signature(ours), "%s.%s is listed for nothing", kind, theirs.Name)
			}
		}
		for name, why := range overridden {
			of, method, _ := strings.Cut(name, ".")
			if of != kind {
				continue
			}
			_, theirs := c.theirs.MethodByName(method)
			assert.True(t, theirs, "%s (%s) is no method of go-redis's", name, why)
		}
	}
}

// signature is a method's without its receiver.
func signature(m reflect.Method) string {
	in := make([]string, 0, m.Type.NumIn())
	for i := 1; i < m.Type.NumIn(); i++ {
		in = append(in, m.Type.In(i).String())
	}
	out := make([]string, 0, m.Type.NumOut())
	for i := range m.Type.NumOut() {
		out = append(out, m.Type.Out(i).String())
	}
	s := strings.Join(in, ", ") + " -> " + strings.Join(out, ", ")
	if m.Type.IsVariadic() {
		s = "variadic " + s
	}
	return s
}

// What go-redis calls Monitor and Shutdown are commands here, too.
func TestMonitorAndShutdownAreGoRedisCommands(t *testing.T) {
	assert.Equal(t, reflect.TypeOf((*redis.Client).Shutdown).Out(0), reflect.TypeOf((*managed.Client).Shutdown).Out(0))
	assert.Equal(t, reflect.TypeFor[*redis.MonitorCmd](), reflect.TypeOf((*managed.Client).Monitor).Out(0))
}
