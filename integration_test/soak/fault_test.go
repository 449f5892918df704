package soak

import (
	"context"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

// fault makes trouble and ends it. They run one after the other, on the
// goroutine of the test.
type fault struct {
	name   string
	weight int
	do     func(r *round, rnd *rand.Rand)
}

var faults = []fault{
	{"CLIENT KILL of all", 6, func(r *round, _ *rand.Rand) { r.server.KillClients(r.t) }},
	{"all connections reset", 3, func(r *round, _ *rand.Rand) { r.proxy.CutAll() }},
	{"cuts at every point", 6, cuts},
	{"half-open connections", 3, func(r *round, _ *rand.Rand) { r.proxy.StallExisting() }},
	{"clock jump", 2, func(r *round, rnd *rand.Rand) { // by up to two hours, forth or back
		r.ahead.Add(int64(time.Duration(rnd.IntN(4*3600)-2*3600) * time.Second))
	}},
	{"suspended machine", 1, func(r *round, rnd *rand.Rand) { // everybody else has forgotten it meanwhile
		r.proxy.StallExisting()
		r.ahead.Add(int64(time.Duration(1+rnd.IntN(600)) * time.Minute))
	}},
	{"silence", 3, func(r *round, rnd *rand.Rand) {
		r.proxy.Stall(true)
		wait(rnd, 800)
		r.proxy.Stall(false)
	}},
	{"replies in pieces", 2, func(r *round, rnd *rand.Rand) {
		r.proxy.ReplySlices(1 + rnd.IntN(20))
		wait(rnd, 400)
		r.proxy.ReplySlices(0)
	}},
	{"new connections refused", 2, func(r *round, rnd *rand.Rand) {
		r.proxy.RefuseNew(true)
		r.proxy.CutAll()
		wait(rnd, 400)
		r.proxy.RefuseNew(false)
	}},
	{"restart", 2, func(r *round, rnd *rand.Rand) {
		r.server.Kill()
		wait(rnd, 1200)
		r.server.Restart()
	}},
	{"stopped server", 2, func(r *round, rnd *rand.Rand) {
		r.server.Pause()
		wait(rnd, 700)
		r.server.Resume()
	}},
	{"DEBUG SLEEP", 3, func(r *round, rnd *rand.Rand) {
		r.admin("DEBUG", "SLEEP", strconv.FormatFloat(rnd.Float64()*0.6, 'f', 3, 64))
	}},
	{"READONLY", 3, func(r *round, rnd *rand.Rand) { r.replica(rnd) }},
	{"MASTERDOWN", 1, func(r *round, rnd *rand.Rand) {
		r.admin("CONFIG", "SET", "replica-serve-stale-data", "no")
		r.replica(rnd)
		r.admin("CONFIG", "SET", "replica-serve-stale-data", "yes")
	}},
	{"LOADING", 2, loading},
	{"CLIENT KILL of all, in the cluster", 4, func(r *round, rnd *rand.Rand) { r.node(rnd).KillClients(r.t) }},
	// Shorter than the time after which the node would be taken for lost.
	{"stopped node of the cluster", 3, func(r *round, rnd *rand.Rand) {
		n := r.node(rnd)
		n.Pause()
		wait(rnd, 300)
		n.Resume()
	}},
	{"failover in the cluster", 1, func(r *round, rnd *rand.Rand) { r.cluster.Failover(rnd.IntN(shards)) }},
}

func wait(rnd *rand.Rand, ms int) { time.Sleep(time.Duration(50+rnd.IntN(ms)) * time.Millisecond) }

// trouble makes faults until the time is over, and leaves none behind. It says
// how many of each there were.
func (r *round) trouble(rnd *rand.Rand, d time.Duration) map[string]int {
	sum := 0
	for _, f := range faults {
		sum += f.weight
	}
	did := map[string]int{}
	for end := time.Now().Add(d); time.Now().Before(end); {
		n := rnd.IntN(sum)
		for _, f := range faults {
			if n -= f.weight; n < 0 {
				f.do(r, rand.New(rand.NewPCG(rnd.Uint64(), 3)))
				did[f.name]++
				break
			}
		}
		wait(rnd, 300)
	}
	return did
}

// cuts cuts one chunk in 50, before, in the middle of and after it.
func cuts(r *round, rnd *rand.Rand) {
	ways := []redistest.Action{redistest.CutBefore, redistest.HalfThenCut, redistest.CutAfter}
	var mu sync.Mutex
	draw := rand.New(rand.NewPCG(rnd.Uint64(), 4))
	f := func(int, []byte) redistest.Action {
		mu.Lock()
		defer mu.Unlock()
		if draw.IntN(50) > 0 {
			return redistest.Forward
		}
		return ways[draw.IntN(len(ways))]
	}
	r.proxy.OnRequest(f)
	r.proxy.OnReply(f)
	wait(rnd, 800)
	r.proxy.OnRequest(nil)
	r.proxy.OnReply(nil)
}

// replica makes the server a replica of nobody who answers, for a moment: it
// keeps its data, and takes no writes.
func (r *round) replica(rnd *rand.Rand) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	defer ln.Close()
	host, port, _ := net.SplitHostPort(ln.Addr().String())
	r.admin("REPLICAOF", host, port)
	wait(rnd, 500)
	r.admin("REPLICAOF", "NO", "ONE")
}

// loading has the server read its data again, slowly.
func loading(r *round, _ *rand.Rand) {
	size, err := r.server.Admin().DBSize(context.Background()).Result()
	if err != nil {
		r.t.Fatal(err)
	}
	// Below one microsecond for each key it is one for that many keys.
	delay := 300_000 / max(size, 1)
	if delay == 0 {
		delay = -size / 300_000
	}
	r.admin("CONFIG", "SET", "key-load-delay", delay)
	r.admin("DEBUG", "LOADAOF")
	r.admin("CONFIG", "SET", "key-load-delay", 0)
}

func (r *round) admin(args ...any) {
	r.t.Helper()
	if err := r.server.Admin().Do(context.Background(), args...).Err(); err != nil {
		r.t.Fatalf("%v: %v", args, err)
	}
}

func (r *round) node(rnd *rand.Rand) *redistest.Server {
	nodes := r.cluster.Nodes()
	return nodes[rnd.IntN(len(nodes))]
}
