package serverside_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/lifeguard-redis/lifeguard/serverside"
)

func TestAFilterFitsWhatItAsksFor(t *testing.T) {
	c62, c72, ip6, sock := parseOne(t, line62), parseOne(t, line72), parseOne(t, valkey), parseOne(t, unix)
	mapped := c62
	mapped.Addr = "[::ffff:10.1.2.3]:5"
	for _, tt := range []struct {
		name string
		f    serverside.Filter
		c    serverside.Client
		want bool
	}{
		{"nothing asked", serverside.Filter{}, c62, true},
		{"user", serverside.Filter{User: "ci"}, c62, true},
		{"other user", serverside.Filter{User: "c"}, c62, false},
		{"name", serverside.Filter{Name: "web-1"}, c62, true},
		{"name by pattern", serverside.Filter{Name: "w*-?"}, c62, true},
		{"name by half a pattern", serverside.Filter{Name: "w*-"}, c62, false},
		{"library", serverside.Filter{Library: "go-redis*"}, c72, true},
		{"library of a client that has none", serverside.Filter{Library: "*"}, c62, false},
		{"IP", serverside.Filter{Addr: "10.1.2.3"}, c62, true},
		{"IP within IPv6", serverside.Filter{Addr: "10.1.2.3"}, mapped, true},
		{"other IP", serverside.Filter{Addr: "10.1.2.30"}, c62, false},
		{"subnet", serverside.Filter{Addr: "10.1.0.0/16"}, c62, true},
		{"subnet with host bits", serverside.Filter{Addr: "10.1.9.9/16"}, c62, true},
		{"other subnet", serverside.Filter{Addr: "10.2.0.0/16"}, c62, false},
		{"address and port", serverside.Filter{Addr: "10.1.2.3:51342"}, c62, true},
		{"other port", serverside.Filter{Addr: "10.1.2.3:51343"}, c62, false},
		{"IPv6", serverside.Filter{Addr: "::1"}, ip6, true},
		{"IPv6 and port", serverside.Filter{Addr: "[::1]:48188"}, ip6, true},
		{"IPv6 subnet", serverside.Filter{Addr: "::/64"}, ip6, true},
		{"path", serverside.Filter{Addr: "/run/my redis/r.sock"}, sock, true},
		{"path as the server writes it", serverside.Filter{Addr: "/run/my redis/r.sock:0"}, sock, true},
		{"IP of a Unix socket", serverside.Filter{Addr: "0.0.0.0/0"}, sock, false},
		{"type", serverside.Filter{Type: serverside.TypePubSub}, ip6, true},
		{"other type", serverside.Filter{Type: serverside.TypeNormal}, ip6, false},
		{"age", serverside.Filter{MinAge: 24 * time.Hour}, c62, true},
		{"too young", serverside.Filter{MinAge: 24*time.Hour + time.Second}, c62, false},
		{"idle", serverside.Filter{MinIdle: 5 * time.Minute}, c62, true},
		{"not idle for that long", serverside.Filter{MinIdle: 302 * time.Second}, c62, false},
		{"DB", serverside.Filter{DB: []int64{0, 2}}, c62, true},
		{"DB 0", serverside.Filter{DB: []int64{0}}, c62, false},
		{"all of it", serverside.Filter{User: "ci", Name: "web*", MinAge: time.Hour, Addr: "10.0.0.0/8"}, c62, true},
		{"all but one", serverside.Filter{User: "ci", Name: "web*", MinAge: time.Hour, Addr: "11.0.0.0/8"}, c62, false},
		{"a filter that is wrong", serverside.Filter{Addr: "nonsense"}, c62, false},
	} {
		assert.Equal(t, tt.want, tt.f.Match(tt.c), tt.name)
	}
}

func TestPatternsKnowStarQuestionMarkAndBackslash(t *testing.T) {
	for _, tt := range []struct {
		pattern, s string
		want       bool
	}{
		{"*", "", true}, {"?", "", false}, {"a", "", false}, {"**", "ab", true},
		{"*a", "ba", true}, {"*a", "ab", false}, {"a*b*c", "aXbYbZc", true}, {"a*b*c", "aXbYbZ", false},
		{"*/b", "x/y/b", true}, {"[ab]", "a", false}, {"[ab]", "[ab]", true},
		{`\*`, "*", true}, {`\*`, "x", false}, {`a\?*`, "a?b", true}, {`*\\`, `x\`, true},
		{"a?c", "abc", true}, {"a?c", "ac", false}, {"*ab", "aab", true},
	} {
		c := serverside.Client{}
		list, err := serverside.Parse("id=1 name=" + tt.s)
		if assert.NoError(t, err) {
			c = list[0]
		}
		f := serverside.Filter{Name: tt.pattern}
		assert.Equal(t, tt.want, f.Match(c), "%q on %q", tt.pattern, tt.s)
	}
}

func TestAWrongFilterNamesTheFieldAndTheValue(t *testing.T) {
	for _, tt := range []struct {
		f    serverside.Filter
		want string
	}{
		{serverside.Filter{User: "a b"}, `Filter.User: "a b"`},
		{serverside.Filter{Name: `x\`}, `Filter.Name: "x\\"`},
		{serverside.Filter{Library: `\`}, `Filter.Library`},
		{serverside.Filter{Addr: "10.0.0.0/33"}, `Filter.Addr: "10.0.0.0/33"`},
		{serverside.Filter{Addr: "localhost"}, `Filter.Addr: "localhost"`},
		{serverside.Filter{Addr: "/"}, `Filter.Addr`},
		{serverside.Filter{Type: "slave"}, `Filter.Type: "slave"`},
		{serverside.Filter{MinAge: -time.Second}, "Filter.MinAge: -1s: is negative"},
		{serverside.Filter{MinIdle: 1500 * time.Millisecond}, "Filter.MinIdle: 1.5s"},
		{serverside.Filter{DB: []int64{0, -1}}, "Filter.DB: -1"},
	} {
		assert.ErrorContains(t, tt.f.Validate(), tt.want)
		_, err := serverside.List(bg, dialNobody(t), tt.f)
		assert.ErrorContains(t, err, tt.want)
	}
	assert.NoError(t, serverside.Filter{}.Validate())
}
