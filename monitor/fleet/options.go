package fleet

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// DefaultName is the fleet's name without [WithName].
	DefaultName = "default"
	// DefaultInterval is the period without [WithInterval].
	DefaultInterval = 10 * time.Second
	// MinInterval is the shortest period.
	MinInterval = 100 * time.Millisecond
	// DefaultRetention is how long lost instances are listed without [WithRetention].
	DefaultRetention = time.Hour
	// MaxRetention is the longest retention.
	MaxRetention = 24 * time.Hour
	// DefaultTimeout bounds a round trip to Redis without [WithTimeout].
	DefaultTimeout = time.Second
)

// Option is a setting of [Publish], [Read], [NewSource] or [NewMembers]. Each option says which of
// them accept it; the others return an error.
type Option struct {
	name  string
	of    user
	apply func(*config) error
}

// user says which functions accept an option.
type user uint8

const (
	ofPublish user = 1 << iota
	ofRead
	ofSource
	ofMembers
)

func (u user) String() string {
	return map[user]string{ofPublish: "Publish", ofRead: "Read", ofSource: "NewSource", ofMembers: "NewMembers"}[u]
}

type config struct {
	fleet, service, host   string
	every, lostAfter, keep time.Duration
	timeout                time.Duration
	clientNames            []string
	limits                 map[string]int
	log                    *slog.Logger
}

// WithName sets the name of the fleet, for all functions. Fleets with different names are
// independent. Default [DefaultName]. The name is part of the keys: letters, digits and ._:/- only,
// at most 100 characters.
func WithName(fleet string) Option {
	return Option{"WithName", ofPublish | ofRead | ofSource | ofMembers, func(c *config) error {
		c.fleet = fleet
		if len(fleet) == 0 || len(fleet) > 100 {
			return fmt.Errorf("a name has 1 to 100 bytes, and not %d", len(fleet))
		}
		for _, r := range fleet {
			if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._:/-", r) {
				return fmt.Errorf("%q: a name has letters, digits and ._:/- only", fleet)
			}
		}
		return nil
	}}
}

// WithService sets the name under which Publish lists this program. Default: the name of its
// executable file. Printable text of at most 200 bytes.
func WithService(name string) Option {
	return Option{"WithService", ofPublish, func(c *config) error { c.service = name; return printable(name) }}
}

// WithHost sets the name under which Publish lists this machine. Default: os.Hostname. Printable
// text of at most 200 bytes.
func WithHost(name string) Option {
	return Option{"WithHost", ofPublish, func(c *config) error { c.host = name; return printable(name) }}
}

func printable(s string) error {
	switch {
	case s == "" || len(s) > 200:
		return fmt.Errorf("it has 1 to 200 bytes, and not %d", len(s))
	case !utf8.ValidString(s):
		return fmt.Errorf("%.40q is not UTF-8", s)
	case strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("%.40q: printable text only", s)
	}
	return nil
}

// WithInterval sets how often Publish writes, 10 % more or less. Default 10 s. Less than 100 ms,
// zero and negative are errors.
func WithInterval(d time.Duration) Option {
	return Option{"WithInterval", ofPublish, func(c *config) error {
		c.every = d
		if d < MinInterval {
			return fmt.Errorf("%v is too short: at least %v", d, MinInterval)
		}
		return nil
	}}
}

// WithLostAfter sets how long this instance may go without publishing before it counts as lost.
// Default: 3 periods. Less than 2 periods is an error.
func WithLostAfter(d time.Duration) Option {
	return Option{"WithLostAfter", ofPublish, func(c *config) error {
		c.lostAfter = d
		if d <= 0 {
			return fmt.Errorf("%v must be positive", d)
		}
		return nil
	}}
}

// WithRetention sets for how long after its last publication this instance is listed, as lost.
// Default 1 h, or twice LostAfter if that is longer. LostAfter or less is an error, and so is more
// than 24 h.
func WithRetention(d time.Duration) Option {
	return Option{"WithRetention", ofPublish, func(c *config) error {
		c.keep = d
		if d <= 0 || d > MaxRetention {
			return fmt.Errorf("%v: it must be positive and at most %v", d, MaxRetention)
		}
		return nil
	}}
}

// WithTimeout bounds the waiting: for Publish, one round trip to Redis, and [Publisher.Close]; for
// NewSource, each sample; for NewMembers, each read of the fleet. Default 1 s. Zero and negative are
// errors.
func WithTimeout(d time.Duration) Option {
	return Option{"WithTimeout", ofPublish | ofSource | ofMembers, func(c *config) error {
		c.timeout = d
		if d <= 0 {
			return fmt.Errorf("%v must be positive", d)
		}
		return nil
	}}
}

// WithClientNames tells Publish under which names (redis.Options.ClientName) the server lists this
// instance's connections, so that a [Members] can recognise them. Default: they are recognised by
// their addresses. Connections of other processes with these names are spared as well, so a name
// that no other process has is best. Connections without a name are spared, too, unless the
// addresses are known as well: go-redis gives a connection that it opens for MinIdleConns its name
// only at its first use. Empty names, and names with spaces, which no server accepts, are errors.
func WithClientNames(names ...string) Option {
	names = slices.Clone(names)
	return Option{"WithClientNames", ofPublish, func(c *config) error {
		c.clientNames = names
		for _, n := range names {
			if err := printable(n); err != nil {
				return err
			}
			if strings.ContainsRune(n, ' ') {
				return fmt.Errorf("%.40q: names have no spaces", n)
			}
		}
		return nil
	}}
}

// WithMaxClients tells NewSource the maxclients of a server, given by its name in [Fleet].Nodes. It
// takes precedence over the server's own value. Default: the server is asked. n must be positive.
func WithMaxClients(node string, n int) Option {
	return Option{"WithMaxClients", ofSource, func(c *config) error {
		if node == "" || n <= 0 {
			return fmt.Errorf("%q, %d: want the name of a node and a positive number", node, n)
		}
		if c.limits == nil {
			c.limits = map[string]int{}
		}
		c.limits[node] = n
		return nil
	}}
}

// WithLogger sets the logger. Publish logs, once until it works again, that its numbers do not
// reach the fleet, and NewMembers logs that it has to spare everybody. Default: slog.Default(). nil:
// the default.
func WithLogger(l *slog.Logger) Option {
	return Option{"WithLogger", ofPublish | ofMembers, func(c *config) error {
		if l != nil {
			c.log = l
		}
		return nil
	}}
}

func configure(of user, opts []Option) (*config, error) {
	c := &config{fleet: DefaultName, every: DefaultInterval, timeout: DefaultTimeout, log: slog.Default()}
	bad := func(option string, err error) error {
		return fmt.Errorf("lifeguard/monitor/fleet: %v: %s: %w", of, option, err)
	}
	for _, o := range opts {
		switch {
		case o.apply == nil:
			return nil, bad("an option", errors.New("it is empty"))
		case o.of&of == 0:
			return nil, bad(o.name, fmt.Errorf("it is no option of %v", of))
		}
		if err := o.apply(c); err != nil {
			return nil, bad(o.name, err)
		}
	}
	if of != ofPublish {
		return c, nil
	}
	if c.lostAfter == 0 {
		c.lostAfter = 3 * c.every
	}
	if c.keep == 0 {
		c.keep = max(DefaultRetention, 2*c.lostAfter)
	}
	switch {
	case c.lostAfter < 2*c.every:
		return nil, bad("WithLostAfter", fmt.Errorf("%v is less than 2 periods of %v: one late write and the instance is lost", c.lostAfter, c.every))
	case c.keep <= c.lostAfter:
		return nil, bad("WithRetention", fmt.Errorf("%v must be longer than LostAfter, %v", c.keep, c.lostAfter))
	case c.keep > MaxRetention:
		return nil, bad("WithLostAfter", fmt.Errorf("%v is too long: less than %v", c.lostAfter, MaxRetention/2))
	}
	if c.service == "" {
		c.service = clean(filepath.Base(os.Args[0]))
	}
	if c.host == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, bad("WithHost", fmt.Errorf("the system does not say: %w; give it", err))
		}
		c.host = clean(host)
	}
	c.limits = maps.Clone(c.limits)
	return c, nil
}

// clean makes a name from the operating system printable.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
	if s == "" {
		return "?"
	}
	return s[:min(len(s), 200)]
}

func checkClient(of user, rdb any) error {
	if v := reflect.ValueOf(rdb); rdb == nil || v.Kind() == reflect.Pointer && v.IsNil() {
		return fmt.Errorf("lifeguard/monitor/fleet: %v: the client is nil", of)
	}
	return nil
}

// The keys of a fleet share one hash tag.
func (c *config) index() string          { return "lifeguard:{fleet:" + c.fleet + "}:instances" }
func (c *config) entry(id string) string { return "lifeguard:{fleet:" + c.fleet + "}:instance:" + id }
