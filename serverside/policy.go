package serverside

import (
	"fmt"
	"time"
)

// DefaultPerSecond is how many clients a Reaper closes per second unless
// Policy.PerSecond says otherwise.
const DefaultPerSecond = 50

// Policy says which clients a [Reaper] closes: those that match User, Name, Library, Addr and Type,
// are too old or idle for too long, and are not kept by Spare. NewReaper copies it.
type Policy struct {
	// MaxAge closes clients of at least this age, idle or not. Whole seconds; 0: no limit;
	// negative is an error. One of MaxAge and MaxIdle must be set. With both, a client is closed
	// when either limit is reached.
	MaxAge time.Duration
	// MaxIdle closes clients that have sent nothing for this long. Whole seconds; 0: no limit;
	// negative is an error. Clients that wait for the server are not idle: those blocked in BLPOP
	// and the like, and subscribers, are subject to MaxAge only (and so are those in MONITOR, with
	// IncludeServers). A client that sends a command between the last check and the CLIENT KILL
	// loses its connection, as with the server's own timeout.
	MaxIdle time.Duration

	// Which clients the policy applies to; as in Filter. One of User, Name, Library and Addr must
	// be set, or Everybody.
	User    string
	Name    string
	Library string
	Addr    string
	// Type is TypeNormal (the default, "") or TypePubSub. Replication links are never closed:
	// TypeReplica and TypeMaster are errors.
	Type Type
	// Everybody makes the policy apply to every user of the server.
	Everybody bool
	// IncludeServers makes the policy apply also to connections that belong to no application:
	// those of Sentinels and of slot migration (see Client.OfServers), and those in MONITOR.
	// Without it they are not selected. It requires Name, which selects among them; replication
	// links are not closed even then.
	IncludeServers bool

	// Spare keeps a client that would otherwise be closed, above all the connections of the
	// fleet's live pools. It sees the client as it was at most one second earlier. nil spares only
	// the reaper's own connection; other connections of the reaper's own client are not spared. It
	// is called on the sweep's goroutine, one call at a time; a panic in it spares the client. See
	// SpareLive, SpareNames, SpareAddrs, SpareIDs and SpareAny.
	Spare func(Client) bool

	// DryRun reports what would be closed, and closes nothing. It writes nothing to the server, so
	// it takes no lock either; Report.Busy says whether another reaper has the lock.
	DryRun bool

	// PerSecond limits how many clients are closed per second, over all nodes. 0:
	// DefaultPerSecond. Negative: no limit, and then a server that supports it (Redis 7.4, Valkey
	// 8) is told to close them with one CLIENT KILL MAXAGE, if the policy has nothing that
	// requires checking each client: MaxIdle, Name, Library, Addr, Spare, DryRun. The server then
	// reports how many clients it closed, but not which.
	PerSecond int
}

// Validate returns an error that names the invalid field and the reason.
func (p Policy) Validate() error {
	if err := p.filter().validate("Policy"); err != nil {
		return err
	}
	if err := checkSeconds("Policy.MaxAge", p.MaxAge); err != nil {
		return err
	}
	if err := checkSeconds("Policy.MaxIdle", p.MaxIdle); err != nil {
		return err
	}
	if p.MaxAge == 0 && p.MaxIdle == 0 {
		return bad("Policy.MaxAge", p.MaxAge, "neither it nor MaxIdle is given: no client would ever be due")
	}
	switch p.Type {
	case TypeReplica, TypeMaster:
		return bad("Policy.Type", string(p.Type), "replication links are never closed; want normal or pubsub")
	case TypePubSub:
		if p.MaxAge == 0 {
			return bad("Policy.MaxIdle", p.MaxIdle, "subscribers are not idle; give MaxAge")
		}
	}
	if p.IncludeServers && p.Name == "" {
		return bad("Policy.IncludeServers", p.IncludeServers, "it needs Name: say which of them")
	}
	selects := p.User != "" || p.Name != "" || p.Library != "" || p.Addr != ""
	if selects && p.Everybody {
		return bad("Policy.Everybody", p.Everybody, "and User, Name, Library or Addr contradict each other")
	}
	if !selects && !p.Everybody {
		return bad("Policy.Everybody", p.Everybody,
			"the policy is about every client of the server: give User, Name, Library or Addr, or set Everybody")
	}
	return nil
}

func (p Policy) filter() Filter {
	return Filter{User: p.User, Name: p.Name, Library: p.Library, Addr: p.Addr, Type: p.Type}
}

// Reason says why a client was due to be closed.
type Reason string

// The limits of a Policy.
const (
	ReasonAge  Reason = "age"
	ReasonIdle Reason = "idle"
)

// due returns why the client is due, "" if it is not.
func (p *Policy) due(c *Client) Reason {
	switch {
	case p.MaxAge > 0 && c.Has("age") && c.Age >= p.MaxAge:
		return ReasonAge
	case p.MaxIdle > 0 && c.Has("idle") && c.Idle >= p.MaxIdle &&
		c.Type() == TypeNormal && !c.Blocked() && !c.Monitor():
		return ReasonIdle
	}
	return ""
}

// selects checks the parts of the policy that its filter does not cover.
func (p *Policy) selects(c *Client) bool {
	return p.IncludeServers || !c.OfServers() && !c.Monitor()
}

// inBulk reports whether one CLIENT KILL MAXAGE has the same effect as the policy.
func (p *Policy) inBulk() bool {
	return p.PerSecond < 0 && p.MaxAge > 0 && p.MaxIdle == 0 && p.Name == "" && p.Library == "" &&
		p.Addr == "" && p.Spare == nil && !p.DryRun
}

// String returns the policy in one line.
func (p Policy) String() string {
	s := "clients"
	for _, f := range []struct{ name, value string }{
		{"user", p.User}, {"name", p.Name}, {"library", p.Library}, {"addr", p.Addr}, {"type", string(p.Type)},
	} {
		if f.value != "" {
			s += fmt.Sprintf(" %s=%q", f.name, f.value)
		}
	}
	if p.MaxAge > 0 {
		s += " older than " + p.MaxAge.String()
	}
	if p.MaxIdle > 0 {
		if p.MaxAge > 0 {
			s += " or"
		}
		s += " idle for " + p.MaxIdle.String()
	}
	if p.DryRun {
		s += " (dry run)"
	}
	return s
}
