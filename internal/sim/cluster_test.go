//go:build unix

package sim

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

const slotCount = 16384

// slotOf is the slot of a key, by its hash tag.
// https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
func slotOf(key string) int {
	if _, after, found := strings.Cut(key, "{"); found {
		if tag, _, closed := strings.Cut(after, "}"); closed && tag != "" {
			key = tag
		}
	}
	crc := uint16(0) // CRC-16/XMODEM
	for i := range len(key) {
		crc ^= uint16(key[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return int(crc) % slotCount
}

// newCluster has three shards of a master and a replica.
func (n *Network) newCluster() (addrs []string) {
	n.slots = make([]int, slotCount)
	for i := range n.slots {
		n.slots[i] = i * 3 / slotCount
	}
	n.moving = map[int]bool{}
	for shard := range 3 {
		for role := range 2 {
			s := n.addServer("10.0.1."+strconv.Itoa(10*shard+role+1)+":6379", shard, role == 1)
			addrs = append(addrs, s.addr)
		}
	}
	return addrs
}

// newSentinels has a master and a replica, and two Sentinels, which answer in no
// time: go-redis asks them while it holds a mutex.
func (n *Network) newSentinels() (sentinels []string) {
	n.addServer("10.0.2.1:6379", 0, false)
	n.addServer("10.0.2.2:6379", 0, true)
	for i := range 2 {
		s := n.addServer("10.0.2.10:"+strconv.Itoa(26379+i), -1, false)
		s.sentinel = masterName
		sentinels = append(sentinels, s.addr)
	}
	return sentinels
}

const masterName = "mymaster"

func (n *Network) masterLocked(shard int) *Server {
	for _, s := range n.servers {
		if s.shard == shard && !s.replica {
			return s
		}
	}
	return nil
}

// elsewhereLocked is where a slot is to be asked for, nil if here.
func (n *Network) elsewhereLocked(s *Server, slot int, asking bool) error {
	if time.Now().Before(n.down) {
		return refuse("CLUSTERDOWN The cluster is down")
	}
	owner := n.masterLocked(n.slots[slot])
	next := n.masterLocked((n.slots[slot] + 1) % 3)
	switch moving := n.moving[slot*movingParts/slotCount]; {
	case s == owner && !moving, s == next && moving && asking:
		return nil
	case s == owner: // its keys are there already
		return refuse("ASK %d %s", slot, next.addr)
	}
	return refuse("MOVED %d %s", slot, owner.addr)
}

const movingParts = 8 // slots move in that many groups

// move moves a group of slots to the next shard, which takes d.
func (n *Network) move(group int, d time.Duration) {
	n.mu.Lock()
	n.moving[group%movingParts] = true
	n.changes = append(n.changes, n.trace.now())
	n.mu.Unlock()
	time.Sleep(d)
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.moving, group%movingParts)
	n.changes = append(n.changes, n.trace.now())
	for slot := range n.slots {
		if slot*movingParts/slotCount == group%movingParts {
			n.slots[slot] = (n.slots[slot] + 1) % 3
		}
	}
}

// promote makes the replica of a shard its master.
func (n *Network) promote(shard int) {
	n.mu.Lock()
	old := n.masterLocked(shard)
	var to *Server
	for _, s := range n.servers {
		if s.shard == shard && s.replica {
			to = s
		}
	}
	if old == nil || to == nil {
		n.mu.Unlock()
		return
	}
	old.replica, to.replica = true, false
	n.changes = append(n.changes, n.trace.now())
	n.mu.Unlock()
	n.each(old, func(l *Link) { l.harm("leads to a replica from now on") })
	n.trace.add("fault", 0, "%s takes over from %s", to.addr, old.addr)
	host, port := hostPort(to.addr)
	oldHost, oldPort := hostPort(old.addr)
	text := strings.Join([]string{masterName, oldHost, oldPort, host, port}, " ")
	n.each(nil, func(l *Link) {
		if l.isSubscribed() {
			l.push(push{[]byte("message"), []byte("+switch-master"), []byte(text)})
		}
	})
}

// inMap reports whether a server is in the slot map: those of a shard whose slots have all moved
// are not, and go-redis leaves them out of its counts before it closes their connections.
func (n *Network) inMap(s *Server) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.slots == nil || slices.Contains(n.slots, s.shard)
}

// slotMap is the reply to CLUSTER SLOTS.
func (n *Network) slotMap() any {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.slots == nil {
		return refuse("ERR This instance has cluster support disabled")
	}
	node := func(s *Server) any {
		host, port := hostPort(s.addr)
		number, _ := strconv.Atoi(port)
		return []any{[]byte(host), number, []byte("id of " + host)}
	}
	var out []any
	for from := 0; from < slotCount; {
		to := from
		for to+1 < slotCount && n.slots[to+1] == n.slots[from] {
			to++
		}
		entry := []any{from, to, node(n.masterLocked(n.slots[from]))}
		for _, s := range n.servers {
			if s.shard == n.slots[from] && s.replica {
				entry = append(entry, node(s))
			}
		}
		out = append(out, entry)
		from = to + 1
	}
	return out
}

func (n *Network) sentinelReply(sub string) any {
	n.mu.Lock()
	defer n.mu.Unlock()
	if sub == "get-master-addr-by-name" {
		host, port := hostPort(n.masterLocked(0).addr)
		return bulk(host, port)
	}
	return []any{}
}

// push sends a frame that nobody asked for, if the client can take it.
func (l *Link) push(frame push) {
	l.server.net.mu.Lock()
	resp3, subscribed := l.resp3, l.subscribed
	l.server.net.mu.Unlock()
	if !resp3 && !subscribed {
		return
	}
	l.writing <- struct{}{}
	defer func() { <-l.writing }()
	var b strings.Builder
	encode(&b, frame, resp3)
	latency, perSecond := l.server.line()
	frame1, frame2 := b.String()[:b.Len()/2], b.String()[b.Len()/2:] // it comes in two parts
	_, _ = l.down.write([]byte(frame1), latency, perSecond)
	time.Sleep(5 * ms)
	_, _ = l.down.write([]byte(frame2), latency, perSecond)
}
