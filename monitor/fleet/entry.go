package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
)

// version is that of the hash's fields. A reader leaves others alone.
const version = 1

// maxAddrs is how many addresses an instance publishes at most; one with more
// connections is told by ClientNames only.
const maxAddrs = 1000

// fields writes an instance as the fields of a hash: always all of them, so that
// none is left from earlier.
func (c *config) fields(i *Instance) []any {
	nodes := i.Nodes
	if i.rest != (Numbers{}) {
		nodes = append([]Node{{Numbers: i.rest}}, nodes...) // the one without a name
	}
	return []any{
		"v", version, "rev", i.rev, "service", i.Service, "host", i.Host, "pid", i.PID, "started_ms", i.Started.UnixMilli(),
		"every_ms", i.Every.Milliseconds(), "lost_ms", i.LostAfter.Milliseconds(), "keep_ms", c.keep.Milliseconds(),
		"total", i.Total, "active", i.Active, "idle", i.Idle, "disconnected", i.Disconnected,
		"numbers", text(i.Numbers), "nodes", text(nodes), "unknown", strconv.FormatBool(i.Unknown),
		"gaps", text(i.Gaps), "client_names", text(i.ClientNames), "addrs", text(i.Addrs),
	}
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil { // of plain numbers and strings: it cannot be
		return "null"
	}
	return string(b)
}

// parse reads what fields wrote. ttl is what the hash has left of its time to live.
func parse(id string, h map[string]string, ttl time.Duration) (Instance, error) {
	r := reader{h: h}
	if v := r.int("v", 1, math.MaxInt32); r.err == nil && v != version {
		return Instance{}, fmt.Errorf("it is of version %d, and this one reads %d", v, version)
	}
	i := Instance{
		ID: id, Service: r.str("service"), Host: r.str("host"), PID: int(r.int("pid", 0, math.MaxInt32)),
		Started: time.UnixMilli(r.int("started_ms", 0, lastTime)),
		Every:   r.ms("every_ms"), LostAfter: r.ms("lost_ms"), Unknown: r.str("unknown") == "true",
	}
	i.rev = uint64(r.int("rev", 0, maxCount))
	keep := r.ms("keep_ms")
	r.json("numbers", &i.Numbers)
	r.json("nodes", &i.Nodes)
	r.json("gaps", &i.Gaps)
	r.json("client_names", &i.ClientNames)
	r.json("addrs", &i.Addrs)
	r.numbers("numbers", &i.Numbers)
	seen := map[string]bool{}
	var sum Numbers
	for k := range i.Nodes {
		n := &i.Nodes[k]
		r.numbers("nodes", &n.Numbers)
		if n.MaxClients < 0 || n.MaxClients > math.MaxInt32 || seen[n.Name] || len(n.Name) > maxText || len(n.RunID) > maxText || n.Names != nil {
			r.fail("nodes", errors.New("it is no list of nodes"))
		}
		seen[n.Name] = true
		if r.err == nil {
			sum.add(n.Numbers)
		}
	}
	if r.err == nil && sum.above(&i.Numbers) {
		r.fail("nodes", errors.New("they have more than the instance"))
	}
	if len(i.Service) > maxText || len(i.Host) > maxText || len(i.Addrs) > maxAddrs || len(i.ClientNames) > maxAddrs || len(i.Gaps) > maxAddrs {
		r.fail("service, host, addrs, client_names or gaps", errors.New("it is too long"))
	}
	// For those who look with redis-cli, and a check.
	for name, n := range map[string]int{"total": i.Total, "active": i.Active, "idle": i.Idle} {
		if int64(n) != r.int(name, 0, math.MaxInt32) {
			r.fail(name, errors.New("numbers says otherwise"))
		}
	}
	if i.Disconnected != uint64(r.int("disconnected", 0, maxCount)) {
		r.fail("disconnected", errors.New("numbers says otherwise"))
	}
	if r.err != nil {
		return Instance{}, r.err
	}
	if len(i.Nodes) > 0 && i.Nodes[0].Name == "" {
		i.rest, i.Nodes = i.Nodes[0].Numbers, i.Nodes[1:]
	}
	if seen[""] && i.rest == (Numbers{}) {
		return Instance{}, errors.New("nodes: a node has no name")
	}
	if len(i.Nodes) == 0 {
		i.Nodes = nil
	}
	i.Age = max(keep-ttl, 0)
	i.Lost = i.Age > i.LostAfter
	return i, nil
}

const (
	// maxCount is what a counter may be: no tool on the way spoils it, as those do that
	// have only float64, and the sum of MaxInstances of them is an uint64.
	maxCount = 1 << 50
	// lastTime is the end of the year 9999, beyond which JSON has no times.
	lastTime = 253402300799999
	// maxText is how long a name may be, in bytes.
	maxText = 1000
)

// reader takes fields of a hash, and keeps the first error.
type reader struct {
	h   map[string]string
	err error
}

func (r *reader) fail(name string, err error) {
	if r.err == nil {
		r.err = fmt.Errorf("%s: %w", name, err)
	}
}

func (r *reader) str(name string) string {
	v, ok := r.h[name]
	if !ok {
		r.fail(name, errors.New("it is missing"))
	}
	return v
}

func (r *reader) int(name string, least, most int64) int64 {
	v := r.str(name)
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < least || n > most {
		r.fail(name, fmt.Errorf("%.40q is no number that it can have", v))
		return 0
	}
	return n
}

func (r *reader) ms(name string) time.Duration {
	return time.Duration(r.int(name, 1, MaxRetention.Milliseconds())) * time.Millisecond
}

func (r *reader) json(name string, to any) {
	if err := json.Unmarshal([]byte(r.str(name)), to); err != nil {
		r.fail(name, err)
	}
}

func (r *reader) numbers(name string, n *Numbers) {
	for _, g := range n.gauges() {
		if *g < 0 || *g > math.MaxInt32 {
			r.fail(name, fmt.Errorf("%d is no number that it can have", *g))
		}
	}
	for _, c := range n.counters() {
		if *c > maxCount {
			r.fail(name, fmt.Errorf("%d is no number that it can have", *c))
		}
	}
	if n.Active+n.Idle > n.Total || n.Subscribed > n.Active {
		r.fail(name, errors.New("they contradict each other"))
	}
}
