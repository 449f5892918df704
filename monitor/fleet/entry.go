package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// version is the version of the hash's fields. A reader ignores other versions.
const version = 1

// maxAddrs is how many addresses an instance publishes at most; connections of an instance that has
// more are recognised by ClientNames only.
const maxAddrs = 1000

// data is the part of an instance that only programs read, in a single field: a separate field
// costs the server more than its content. Zeros are left out.
type data struct {
	Every       int64               `json:"every_ms"`
	LostAfter   int64               `json:"lost_ms"`
	Keep        int64               `json:"keep_ms"`
	Rest        packed              `json:"rest,omitzero"` // numbers that belong to no node
	Nodes       []packedNode        `json:"nodes,omitempty"`
	Unknown     bool                `json:"unknown,omitempty"`
	Gaps        []string            `json:"gaps,omitempty"`
	ClientNames []string            `json:"client_names,omitempty"`
	Addrs       map[string][]uint16 `json:"addrs,omitempty"` // the ports of each IP
}

type packedNode struct {
	Name string `json:"name"`
	packed
	MaxClients int    `json:"max_clients,omitempty"`
	RunID      string `json:"run_id,omitempty"`
}

// packed are Numbers without zeros.
type packed struct {
	Total           int    `json:"total,omitempty"`
	Active          int    `json:"active,omitempty"`
	Idle            int    `json:"idle,omitempty"`
	Disconnected    uint64 `json:"disconnected,omitempty"`
	Subscribed      int    `json:"subscribed,omitempty"`
	Size            int    `json:"size,omitempty"`
	Waiting         int    `json:"waiting,omitempty"`
	Leases          int    `json:"leases,omitempty"`
	PipelineTotal   int    `json:"pipeline_total,omitempty"`
	PipelineActive  int    `json:"pipeline_active,omitempty"`
	PipelineIdle    int    `json:"pipeline_idle,omitempty"`
	PipelineSize    int    `json:"pipeline_size,omitempty"`
	PipelineWaiting int    `json:"pipeline_waiting,omitempty"`
	Dialed          uint64 `json:"dialed,omitempty"`
	DialErrors      uint64 `json:"dial_errors,omitempty"`
	Hits            uint64 `json:"hits,omitempty"`
	Misses          uint64 `json:"misses,omitempty"`
	Waits           uint64 `json:"waits,omitempty"`
	PoolTimeouts    uint64 `json:"pool_timeouts,omitempty"`
	Retries         uint64 `json:"retries,omitempty"`
	UnknownOutcomes uint64 `json:"unknown_outcomes,omitempty"`
	Leaks           uint64 `json:"leaks,omitempty"`
}

// fields returns an instance as the fields of a hash: always all of them, so that no old value
// remains.
func (c *config) fields(i *Instance) []any {
	d := data{Every: i.Every.Milliseconds(), LostAfter: i.LostAfter.Milliseconds(), Keep: c.keep.Milliseconds(), Rest: packed(i.rest),
		Unknown: i.Unknown, Gaps: i.Gaps, ClientNames: i.ClientNames}
	for _, n := range i.Nodes {
		d.Nodes = append(d.Nodes, packedNode{n.Name, packed(n.Numbers), n.MaxClients, n.RunID})
	}
	for _, a := range i.Addrs {
		if at, err := netip.ParseAddrPort(a); err == nil {
			if d.Addrs == nil {
				d.Addrs = map[string][]uint16{}
			}
			d.Addrs[at.Addr().String()] = append(d.Addrs[at.Addr().String()], at.Port())
		}
	}
	text, err := json.Marshal(d)
	if err != nil { // not possible: it holds plain numbers and strings
		text = []byte("null")
	}
	return []any{
		"v", version, "rev", i.rev, "service", i.Service, "host", i.Host, "pid", i.PID, "started_ms", i.Started.UnixMilli(),
		"total", i.Total, "active", i.Active, "idle", i.Idle, "disconnected", i.Disconnected, "data", string(text),
	}
}

// parse reads what fields wrote. ttl is the hash's remaining time to live.
func parse(id string, h map[string]string, ttl time.Duration) (Instance, error) {
	r := reader{h: h}
	if v := r.int("v", 1, math.MaxInt32); r.err == nil && v != version {
		return Instance{}, fmt.Errorf("it is of version %d, and this one reads %d", v, version)
	}
	i := Instance{
		ID: id, Service: r.str("service"), Host: r.str("host"), PID: int(r.int("pid", 0, math.MaxInt32)),
		Started: time.UnixMilli(r.int("started_ms", 0, lastTime)),
	}
	i.rev = uint64(r.int("rev", 0, maxCount))
	var d data
	if err := json.Unmarshal([]byte(r.str("data")), &d); err != nil {
		r.fail("data", err)
	}
	keep := r.ms(d.Keep)
	i.Every, i.LostAfter, i.Unknown, i.Gaps, i.ClientNames = r.ms(d.Every), r.ms(d.LostAfter), d.Unknown, d.Gaps, d.ClientNames
	i.rest = Numbers(d.Rest)
	r.numbers(&i.rest)
	if len(i.Service) > maxText || len(i.Host) > maxText || len(d.ClientNames) > maxAddrs || len(d.Gaps) > maxAddrs || len(d.Nodes) > maxAddrs {
		r.fail("service, host, client_names, gaps or nodes", errors.New("it is too long"))
		return Instance{}, r.err
	}
	i.Numbers = i.rest
	seen := map[string]bool{"": true} // a node must have a name
	for _, n := range d.Nodes {
		one := Node{Name: n.Name, Numbers: Numbers(n.packed), MaxClients: n.MaxClients, RunID: n.RunID}
		r.numbers(&one.Numbers)
		if n.MaxClients < 0 || n.MaxClients > math.MaxInt32 || seen[n.Name] || len(n.Name) > maxText || len(n.RunID) > maxText {
			r.fail("data", errors.New("it has no list of nodes"))
		}
		seen[n.Name] = true
		i.Nodes = append(i.Nodes, one)
		i.Numbers.add(one.Numbers)
	}
	r.numbers(&i.Numbers)
	for ip, ports := range d.Addrs {
		addr, err := netip.ParseAddr(ip)
		if err != nil || len(i.Addrs)+len(ports) > maxAddrs {
			r.fail("data", errors.New("it has no list of addresses"))
			break
		}
		for _, port := range ports {
			i.Addrs = append(i.Addrs, netip.AddrPortFrom(addr, port).String())
		}
	}
	slices.Sort(i.Addrs)
	// These fields are for readers who use redis-cli; here they serve as a check.
	for name, n := range map[string]int{"total": i.Total, "active": i.Active, "idle": i.Idle} {
		if int64(n) != r.int(name, 0, math.MaxInt32) {
			r.fail(name, errors.New("data says otherwise"))
		}
	}
	if i.Disconnected != uint64(r.int("disconnected", 0, maxCount)) {
		r.fail("disconnected", errors.New("data says otherwise"))
	}
	if r.err != nil {
		return Instance{}, r.err
	}
	i.Age = max(keep-ttl, 0)
	i.Lost = i.Age > i.LostAfter
	return i, nil
}

const (
	// maxCount is the largest valid counter: it survives tools that have only float64, and the sum
	// of MaxInstances of them fits into a uint64.
	maxCount = 1 << 50
	// lastTime is the end of the year 9999; JSON cannot represent later times.
	lastTime = 253402300799999
	// maxText is the maximum length of a name, in bytes.
	maxText = 1000
)

// reader reads fields of a hash, and keeps the first error.
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

func (r *reader) ms(n int64) time.Duration {
	if n < 1 || n > MaxRetention.Milliseconds() {
		r.fail("data", fmt.Errorf("%d is no time that it can have", n))
		return 0
	}
	return time.Duration(n) * time.Millisecond
}

func (r *reader) numbers(n *Numbers) {
	for _, g := range n.gauges() {
		if *g < 0 || *g > math.MaxInt32 {
			r.fail("data", fmt.Errorf("%d is no number that it can have", *g))
		}
	}
	for _, c := range n.counters() {
		if *c > maxCount {
			r.fail("data", fmt.Errorf("%d is no number that it can have", *c))
		}
	}
	main, pipeline := n.pools()
	if n.Active+n.Idle > n.Total || n.Subscribed > n.Active || pipeline.InUse+pipeline.Idle > pipeline.Open ||
		min(main.Size, main.Open, main.Idle, main.InUse, main.Waiting) < 0 {
		r.fail("data", errors.New("its numbers contradict each other"))
	}
}
