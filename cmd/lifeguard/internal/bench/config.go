// Package bench measures a managed client beside a bare one, on the user's own
// server.
package bench

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

// Commands lists what can be measured.
var Commands = []string{"get", "set", "incr", "ping"}

// Config says what to measure. Its fields correspond to the flags.
type Config struct {
	For      time.Duration // for all of it
	Count    int           // commands at most, of all clients together; 0: no limit
	Rounds   int           // for each number of callers
	Callers  []int         // callers at once
	Command  string        // of Commands
	Size     int           // bytes of a value
	Adaptive bool          // measure managed.Client.Adaptive, too
	PoolSize int           // 0: as in the URL, or go-redis's default
}

// Defaults of the flags.
const (
	DefaultFor    = 10 * time.Second
	DefaultRounds = 20
	DefaultSize   = 64

	minSlice   = 2 * time.Millisecond // of one client in one round
	maxCallers = 10_000
	maxSize    = 64 << 20
)

// DefaultCallers is used without the flag.
var DefaultCallers = []int{1, 8, 64}

// Check returns an error that names the invalid flag and the reason.
func (c Config) Check() error {
	switch {
	case c.For <= 0:
		return fmt.Errorf("--for %v: must be above 0", c.For)
	case c.Count < 0:
		return fmt.Errorf("--count %d: must be 0 (no limit) or more", c.Count)
	case c.Rounds < 2 || c.Rounds > 10_000:
		return fmt.Errorf("--rounds %d: must be 2 to 10000", c.Rounds)
	case c.Size < 1 || c.Size > maxSize:
		return fmt.Errorf("--size %d: must be 1 to %d bytes", c.Size, maxSize)
	case c.PoolSize < 0:
		return fmt.Errorf("--pool-size %d: must be above 0", c.PoolSize)
	case !slices.Contains(Commands, c.Command):
		return fmt.Errorf("--command %q: must be one of %s", c.Command, strings.Join(Commands, ", "))
	case len(c.Callers) == 0:
		return fmt.Errorf("--callers: is empty")
	}
	for _, n := range c.Callers {
		if n < 1 || n > maxCallers {
			return fmt.Errorf("--callers %d: must be 1 to %d", n, maxCallers)
		}
	}
	if c.slice() < minSlice {
		return fmt.Errorf("--for %v: is too short: %s of %d clients for %s leave %v for each; give it more time, or fewer rounds",
			c.For, errtext.Count(c.Rounds, "round"), c.subjects(), errtext.Count(len(c.Callers), "--callers value"), c.slice())
	}
	if least := c.runs() + c.warming(); c.Count > 0 && c.Count < least {
		return fmt.Errorf("--count %d: is too few for %s of %d clients for each number of callers: at least %d, or fewer rounds", c.Count, errtext.Count(c.Rounds, "round"), c.subjects(), least)
	}
	return nil
}

func (c Config) subjects() int {
	if c.Adaptive {
		return 4
	}
	return 3
}

func (c Config) runs() int { return c.Rounds * c.subjects() * len(c.Callers) }

// warming returns how many commands open the connections.
func (c Config) warming() int {
	n := 0
	for _, callers := range c.Callers {
		n += callers * c.subjects()
	}
	return n
}

// slice returns how long each client runs in each round.
func (c Config) slice() time.Duration { return c.For / time.Duration(c.runs()) }

// share returns how many commands each client may send in each round; 0: no limit.
func (c Config) share() int64 {
	if c.Count == 0 {
		return 0
	}
	return int64((c.Count - c.warming()) / c.runs())
}
