package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// leaser takes a lease of the node of a key; a client of one server has one node.
type leaser struct {
	acquire, try func(ctx context.Context, key string) (*managed.Conn, error)
	with         func(ctx context.Context, key string, fn func(*managed.Conn) error) error
}

// side is a client, and what is known of its calls.
type side struct {
	*round
	name    string
	rdb     managed.UniversalClient
	book    *book
	history *history
	batches redis.UniversalClient // Adaptive
	always  *redis.AutoPipeliner  // Batched
	reads   redis.UniversalClient // where values are read, too; nil: rdb
	leases  leaser
	tags    []string // hash tags, one of each shard
	caching bool

	told   perCommand // unknown outcomes that callers were told of
	logged perCommand // those that the client logged
	calls  atomic.Uint64
	errs   atomic.Uint64
	events tally

	published [3]atomic.Uint64 // how many PUBLISH were told what

	mu     sync.Mutex
	values []string // keys that have certainly been set to themselves
}

// worker is one caller. What it calls depends on its seed alone.
type worker struct {
	*side
	name string
	seat int // of all callers
	rnd  *rand.Rand
	seq  int
}

// step is something that a caller does.
type step struct {
	name   string
	weight int
	do     func(*worker, context.Context)
}

var steps = []step{
	{"incr", 8, (*worker).incr},
	{"set", 8, (*worker).set},
	{"get", 8, (*worker).get},
	{"adaptive", 20, (*worker).adaptive},
	{"batched", 8, (*worker).batched},
	{"pipeline", 4, (*worker).pipeline},
	{"transaction", 4, (*worker).transaction},
	{"watch", 2, (*worker).watch},
	{"lease", 4, (*worker).lease},
	{"lease function", 3, (*worker).leaseFunc},
	{"try lease", 2, (*worker).tryLease},
	{"push", 4, (*worker).push},
	{"publish", 4, (*worker).publish},
	{"share", 8, (*worker).share},
}

// run calls until the round stops.
func (w *worker) run() {
	sum := 0
	for _, s := range steps {
		sum += s.weight
	}
	for w.running() {
		w.seq++
		ctx, cancel := w.context()
		if w.rnd.IntN(2000) == 0 {
			w.forget(ctx)
		}
		n := w.rnd.IntN(sum)
		for _, s := range steps {
			if n -= s.weight; n < 0 {
				s.do(w, ctx)
				break
			}
		}
		cancel()
		w.calls.Add(1)
		time.Sleep(time.Duration(w.rnd.IntN(2000)) * time.Microsecond)
	}
}

// context ends after 3 s, now and then while the call is under way.
func (w *worker) context() (context.Context, context.CancelFunc) {
	d := 3 * time.Second
	if w.rnd.IntN(10) == 0 {
		d = time.Duration(w.rnd.IntN(4000)) * time.Microsecond
	}
	return context.WithTimeout(context.Background(), d)
}

func (w *worker) tag() string { return w.tags[w.rnd.IntN(len(w.tags))] }

// key is a new one, and the same for the same seed.
func (w *worker) key(tag, kind string, n int) string {
	return fmt.Sprintf("%s%s:%s:%d:%d", tag, kind, w.name, w.seq, n)
}

// tell looks at the error of a command and returns it.
func (s *side) tell(what string, err error) error {
	if u := (*retry.UnknownOutcomeError)(nil); errors.As(err, &u) {
		s.told.add(u.Command)
	}
	return s.look(what, err)
}

func (s *side) look(what string, err error) error {
	if err != nil {
		s.errs.Add(1)
	}
	if !ordinary(err) {
		s.bad.add("%s: %s: an error of no kind that was caused: %T %v", s.name, what, err, err)
	}
	return err
}

func (w *worker) counted(what, key string, cmd *redis.IntCmd) {
	w.book.note(key, "1", w.tell(what, cmd.Err()))
	if cmd.Err() == nil && cmd.Val() != 1 {
		w.bad.add("%s: %s %s gave %d, not 1", w.name, what, key, cmd.Val())
	}
}

func (w *worker) wrote(what, key string, err error) {
	w.book.note(key, key, w.tell(what, err))
	if err == nil {
		w.remember(key)
	}
}

func (s *side) remember(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.values) < 1000 {
		s.values = append(s.values, key)
	} else {
		s.values[len(key)*31%1000] = key
	}
}

// known is a key whose value is its name, "" if there is none yet.
func (w *worker) known() string {
	n := w.rnd.Uint32() // drawn in any case
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.values) == 0 {
		return ""
	}
	return w.values[int(n)%len(w.values)]
}

// saw checks a value that was read: it says of which key it is.
func (w *worker) saw(what, key, val string, err error) {
	switch {
	case err == redis.Nil:
		w.bad.add("%s: %s %s: gone", w.name, what, key)
	case errors.Is(err, retry.ErrUnknownOutcome):
		w.bad.add("%s: %s %s: a read has an unknown outcome: %v", w.name, what, key, err)
	case err == nil && val != key:
		w.bad.add("%s: %s %s gave %q: a mixed-up reply", w.name, what, key, val)
	default:
		w.look(what, err)
	}
}

func (w *worker) incr(ctx context.Context) {
	key := w.key(w.tag(), "n", 0)
	w.counted("INCR", key, w.rdb.Incr(ctx, key))
}

func (w *worker) set(ctx context.Context) {
	key := w.key(w.tag(), "v", 0)
	w.wrote("SET", key, w.rdb.Set(ctx, key, key, 0).Err())
}

func (w *worker) get(ctx context.Context) {
	if key := w.known(); key != "" {
		from := redis.UniversalClient(w.rdb)
		if w.reads != nil && w.rnd.IntN(2) == 0 {
			from = w.reads
		}
		v, err := from.Get(ctx, key).Result()
		w.saw("GET", key, v, err)
	}
}

func (w *worker) adaptive(ctx context.Context) {
	tag := w.tag()
	n, v := w.key(tag, "n", 0), w.key(tag, "v", 0)
	switch w.rnd.IntN(3) {
	case 0:
		w.counted("Adaptive INCR", n, w.batches.Incr(ctx, n))
	case 1:
		w.wrote("Adaptive SET", v, w.batches.Set(ctx, v, v, 0).Err())
	default:
		if key := w.known(); key != "" {
			got, err := w.batches.Get(ctx, key).Result()
			w.saw("Adaptive GET", key, got, err)
		}
	}
}

func (w *worker) batched(ctx context.Context) {
	n := w.key(w.tag(), "n", 0)
	if w.rnd.IntN(2) == 0 {
		w.counted("Batched INCR", n, w.always.Incr(ctx, n))
	} else if key := w.known(); key != "" {
		got, err := w.always.Get(ctx, key).Result()
		w.saw("Batched GET", key, got, err)
	}
}

func (w *worker) pipeline(ctx context.Context) {
	old, size := w.known(), 1+w.rnd.IntN(20)
	var ns, vs []string
	var incrs []*redis.IntCmd
	var sets []*redis.StatusCmd
	var gets []*redis.StringCmd
	_, _ = w.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range size {
			tag := w.tag()
			ns, vs = append(ns, w.key(tag, "n", i)), append(vs, w.key(tag, "v", i))
			incrs = append(incrs, p.Incr(ctx, ns[i]))
			sets = append(sets, p.Set(ctx, vs[i], vs[i], 0))
			if old != "" {
				gets = append(gets, p.Get(ctx, old))
			}
		}
		return nil
	})
	for i := range size {
		w.counted("pipelined INCR", ns[i], incrs[i])
		w.wrote("pipelined SET", vs[i], sets[i].Err())
	}
	for _, g := range gets {
		w.saw("pipelined GET", old, g.Val(), g.Err())
	}
}

func (w *worker) transaction(ctx context.Context) {
	tag := w.tag()
	a, b := w.key(tag, "n", 0), w.key(tag, "n", 1)
	var ca, cb *redis.IntCmd
	_, _ = w.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		ca, cb = p.Incr(ctx, a), p.Incr(ctx, b)
		return nil
	})
	w.counted("INCR in MULTI", a, ca)
	w.counted("INCR in MULTI", b, cb)
	w.book.pair(a, b)
}

func (w *worker) watch(ctx context.Context) {
	tag := w.tag()
	n := w.key(tag, "n", 0)
	err := w.rdb.Watch(ctx, func(tx *redis.Tx) error {
		if err := tx.Get(ctx, tag+"watched").Err(); err != nil && err != redis.Nil {
			w.tell("UNWATCH", tx.Unwatch(ctx).Err()) // go-redis would do it, and report nothing
			return fmt.Errorf("%w before EXEC: %v", context.Canceled, err)
		}
		_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Incr(ctx, n)
			return nil
		})
		return err
	}, tag+"watched")
	w.book.note(n, "1", w.tell("WATCH", err))
}

// useLease works on a lease of the node of tag, and may leave it in disorder.
func (w *worker) useLease(ctx context.Context, conn *managed.Conn, tag string) {
	n, v := w.key(tag, "n", 0), w.key(tag, "v", 0)
	w.book.note(n, "1", w.look("INCR on a lease", uncertain(conn.Incr(ctx, n).Err())))
	err := uncertain(conn.Set(ctx, v, v, 0).Err())
	w.book.note(v, v, w.look("SET on a lease", err))
	if err == nil {
		got, err := conn.Get(ctx, v).Result()
		w.saw("GET on a lease", v, got, err)
	}
	if len(w.tags) > 1 { // a cluster has one database, and MULTI on a lease is as on any
		return
	}
	switch w.rnd.IntN(12) {
	case 0:
		if !w.caching { // go-redis refuses it there
			w.look("SELECT on a lease", conn.Select(ctx, 1).Err())
		}
	case 1:
		w.look("MULTI on a lease", conn.Do(ctx, "MULTI").Err())
		conn.Do(ctx, "INCR", "never")
	case 2:
		w.look("WATCH on a lease", conn.Do(ctx, "WATCH", "watched").Err())
	case 3:
		w.look("SETNAME on a lease", conn.ClientSetName(ctx, "soaked").Err())
	}
}

func (w *worker) lease(ctx context.Context) {
	tag := w.tag()
	conn, err := w.leases.acquire(managed.WithLabel(ctx, "soak"), tag)
	w.look("Acquire", err)
	if err != nil {
		return
	}
	w.useLease(ctx, conn, tag)
	if w.rnd.IntN(8) == 0 {
		conn.Discard()
	}
	conn.Release()
	conn.Release()
	if err := conn.Ping(ctx).Err(); err == nil {
		w.bad.add("%s: a lease works after Release", w.name)
	}
}

func (w *worker) leaseFunc(ctx context.Context) {
	tag := w.tag()
	w.look("AcquireFunc", w.leases.with(ctx, tag, func(conn *managed.Conn) error {
		w.useLease(conn.Context(), conn, tag)
		return nil
	}))
}

func (w *worker) tryLease(ctx context.Context) {
	tag := w.tag()
	conn, err := w.leases.try(ctx, tag)
	w.look("TryAcquire", err)
	if err == nil {
		w.useLease(ctx, conn, tag)
		conn.Release()
	}
}

// forget drops a lease without Release, for the garbage collector to find.
func (w *worker) forget(ctx context.Context) {
	if _, err := w.leases.acquire(ctx, w.tag()); err == nil {
		w.forgot.Add(1)
	}
	runtime.GC()
}

// queues and channels are shared by all callers; what is in them says where it
// belongs.
func (w *worker) queue() string { return fmt.Sprint(w.tags[0], "q:", w.rnd.IntN(3)) }

func (w *worker) push(ctx context.Context) {
	q := w.queue()
	e := fmt.Sprintf("%s|%s:%d", q, w.name, w.seq)
	w.queued.pushed(e, w.tell("RPUSH", w.rdb.RPush(ctx, q, e).Err()))
}

func (w *worker) publish(ctx context.Context) {
	ch := fmt.Sprint("c:", w.rnd.IntN(3))
	m := fmt.Sprintf("%s|%s:%d", ch, w.name, w.seq)
	w.published[toldBy(w.tell("PUBLISH", w.rdb.Publish(ctx, ch, m).Err()))].Add(1)
}

// pop takes elements out of all queues, each of which must come once.
func (s *side) pop() {
	qs := []string{s.tags[0] + "q:0", s.tags[0] + "q:1", s.tags[0] + "q:2"}
	for s.running() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		got, err := s.rdb.BLPop(ctx, time.Second, qs...).Result()
		cancel()
		if err == redis.Nil {
			continue
		}
		if s.tell("BLPOP", err) != nil {
			if errors.Is(err, retry.ErrUnknownOutcome) {
				s.queued.lostOne()
			}
			time.Sleep(5 * time.Millisecond)
			continue
		}
		if len(got) != 2 || !strings.HasPrefix(got[1], got[0]+"|") {
			s.bad.add("%s: BLPOP gave %q: a mixed-up reply", s.name, got)
			continue
		}
		if !s.queued.popped(got[1]) {
			s.bad.add("%s: BLPOP gave %q a second time", s.name, got[1])
		}
	}
}

// listen subscribes, and again from time to time; each message must come once
// and on its channel. In a cluster that holds for a connection only: the next one
// may be to a node that hears of the message after it took the subscription. That
// nothing was published twice is for counts to say.
func (s *side) listen(rnd *rand.Rand) {
	seen := map[string]bool{}
	for s.running() {
		ps := s.rdb.Subscribe(context.Background(), "c:0", "c:1")
		_ = ps.PSubscribe(context.Background(), "c:2*")
		stop := time.After(time.Duration(500+rnd.IntN(3000)) * time.Millisecond)
		ch := ps.ChannelWithSubscriptions(redis.WithChannelHealthCheckInterval(200 * time.Millisecond))
		for open := true; open; {
			select {
			case got, ok := <-ch:
				if open = ok; !ok {
					break
				}
				m, ok := got.(*redis.Message)
				if !ok { // a subscription was confirmed, so the connection may be a new one
					if len(s.tags) > 1 {
						clear(seen)
					}
					break
				}
				s.heard.Add(1)
				if !strings.HasPrefix(m.Payload, m.Channel+"|") {
					s.bad.add("%s: channel %s brought %q", s.name, m.Channel, m.Payload)
				}
				if seen[m.Payload] {
					s.bad.add("%s: message %q came twice", s.name, m.Payload)
				}
				seen[m.Payload] = true
			case <-stop:
				open = false
			case <-s.stop:
				open = false
			}
		}
		_ = ps.Close()
	}
}

// operate turns the knobs of a client at random.
func (s *side) operate(rnd *rand.Rand) {
	for s.running() {
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		switch d := time.Duration(20+rnd.IntN(1000)) * time.Millisecond; rnd.IntN(9) {
		case 0:
			s.rdb.SetMaxAge(d)
		case 1:
			s.rdb.SetMaxAge(0)
		case 2:
			s.rdb.SetMaxIdle(d)
		case 3:
			s.rdb.SetHeartbeat(d)
		case 4:
			s.rdb.SetHeartbeat(-1)
		case 5:
			s.rdb.EvictIdle(ctx)
		case 6:
			s.rdb.Reset(ctx)
		case 7:
			_, _ = s.rdb.Warm(ctx, 1+rnd.IntN(poolSize))
		case 8:
			_, _, _, _ = s.rdb.Conns(), s.rdb.Leases(), s.rdb.Stats(), s.rdb.PoolMonitor().Advice()
		}
		cancel()
		time.Sleep(time.Duration(rnd.IntN(300)) * time.Millisecond)
	}
}

// queue reconciles what was pushed with what was popped.
type queue struct {
	mu    sync.Mutex
	put   map[string]told
	taken map[string]bool
	lost  int // pops whose reply nobody got, each of which may have taken one
}

func newQueue() *queue { return &queue{put: map[string]told{}, taken: map[string]bool{}} }

func (q *queue) pushed(e string, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.put[e] = toldBy(err)
}

func (q *queue) popped(e string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	again := q.taken[e]
	q.taken[e] = true
	return !again
}

func (q *queue) lostOne() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lost++
}

// reconcile is given what is still in the queues.
func (q *queue) reconcile(bad *faulty, left []string) string {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range left {
		if q.taken[e] {
			bad.add("%q was popped, or pushed twice, and is in the queue", e)
		}
		q.taken[e] = true
	}
	for e := range q.taken {
		if o, ok := q.put[e]; !ok || o == refused {
			bad.add("%q is in the queue, and its RPUSH was not told so (%v)", e, o)
		}
	}
	missing := 0
	for e, o := range q.put {
		if o == success && !q.taken[e] {
			missing++
		}
	}
	if missing > q.lost {
		bad.add("%d elements are missing, and only %d pops have an unknown outcome", missing, q.lost)
	}
	return fmt.Sprintf("%d pushes, %d taken or left, %d missing after %d pops of unknown outcome", len(q.put), len(q.taken), missing, q.lost)
}
