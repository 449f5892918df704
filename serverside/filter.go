package serverside

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Filter selects clients: those that match all of its fields. The zero value selects all. In
// patterns, * matches any text, ? matches one byte, and \ makes the next byte literal.
type Filter struct {
	User    string        // name of the ACL user; "" for any
	Name    string        // pattern of the name; "" for any
	Library string        // pattern of lib-name; "" for any. Before Redis 7.2 no client has one
	Addr    string        // client's end: IP, subnet "10.0.0.0/8", ip:port, or path of a Unix socket; "" for any
	Type    Type          // "" for any
	MinAge  time.Duration // whole seconds; 0 for any, negative is an error
	MinIdle time.Duration // whole seconds since its last command; 0 for any, negative is an error
	DB      []int64       // any of these; empty for any, negative is an error
}

// Validate returns an error that names the invalid field and the reason.
func (f Filter) Validate() error { return f.validate("Filter") }

func (f Filter) validate(of string) error {
	if strings.ContainsAny(f.User, " \n\x00") {
		return bad(of+".User", f.User, "no user has such a name")
	}
	if err := checkGlob(f.Name); err != nil {
		return bad(of+".Name", f.Name, err.Error())
	}
	if err := checkGlob(f.Library); err != nil {
		return bad(of+".Library", f.Library, err.Error())
	}
	if _, err := parseAddr(f.Addr); err != nil {
		return bad(of+".Addr", f.Addr, err.Error())
	}
	switch f.Type {
	case "", TypeNormal, TypePubSub, TypeReplica, TypeMaster:
	default:
		return bad(of+".Type", string(f.Type), "want normal, pubsub, replica or master")
	}
	if err := checkSeconds(of+".MinAge", f.MinAge); err != nil {
		return err
	}
	if err := checkSeconds(of+".MinIdle", f.MinIdle); err != nil {
		return err
	}
	for _, db := range f.DB {
		if db < 0 {
			return bad(of+".DB", db, "is negative")
		}
	}
	return nil
}

// Match reports whether the client matches. An invalid filter matches nothing. A field that the
// client's line does not have matches only a filter that leaves this field empty.
func (f Filter) Match(c Client) bool {
	m, err := f.compile("Filter")
	return err == nil && m.match(&c)
}

// matcher is a validated filter.
type matcher struct {
	Filter
	addr addrFilter
}

func (f Filter) compile(of string) (*matcher, error) {
	if err := f.validate(of); err != nil {
		return nil, err
	}
	a, err := parseAddr(f.Addr)
	return &matcher{f, a}, err
}

func (m *matcher) match(c *Client) bool {
	switch {
	case m.User != "" && c.User != m.User:
	case m.Name != "" && !(c.Has("name") && glob(m.Name, c.Name)):
	case m.Library != "" && !(c.Has("lib-name") && glob(m.Library, c.LibName)):
	case m.Type != "" && !(c.Has("flags") && c.Type() == m.Type):
	case m.MinAge > 0 && c.Age < m.MinAge:
	case m.MinIdle > 0 && c.Idle < m.MinIdle:
	case len(m.DB) > 0 && !(c.Has("db") && slices.Contains(m.DB, c.DB)):
	case m.Addr != "" && !m.addr.match(c):
	default:
		return true
	}
	return false
}

// addrFilter is one of the forms of Filter.Addr.
type addrFilter struct {
	net  netip.Prefix
	port netip.AddrPort
	path string
}

func parseAddr(s string) (a addrFilter, err error) {
	if s == "" {
		return a, nil
	}
	if strings.HasPrefix(s, "/") && len(s) > 1 {
		a.path = strings.TrimSuffix(s, ":0")
		return a, nil
	}
	if ip, err := netip.ParseAddr(s); err == nil {
		ip = ip.Unmap()
		a.net = netip.PrefixFrom(ip, ip.BitLen())
		return a, nil
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		if p.Addr().Is4In6() {
			return a, fmt.Errorf("write the subnet as IPv4")
		}
		a.net = p.Masked()
		return a, nil
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		a.port = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
		return a, nil
	}
	return a, fmt.Errorf("want an IP, a subnet like 10.0.0.0/8, ip:port, or the path of a Unix socket")
}

func (a addrFilter) match(c *Client) bool {
	if a.path != "" {
		return strings.TrimSuffix(c.Addr, ":0") == a.path
	}
	ap, err := netip.ParseAddrPort(c.Addr)
	if err != nil {
		return false
	}
	ip := ap.Addr().Unmap()
	if a.port.IsValid() {
		return a.port == netip.AddrPortFrom(ip, ap.Port())
	}
	return a.net.Contains(ip)
}

func checkSeconds(field string, d time.Duration) error {
	switch {
	case d < 0:
		return bad(field, d, "is negative")
	case d%time.Second != 0:
		return bad(field, d, "servers count in whole seconds")
	}
	return nil
}
