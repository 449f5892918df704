package retry_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// stingy is a policy whose budget is spent.
func stingy() retry.Policy {
	p := quick()
	p.Backoff = retry.FullJitter(20*time.Millisecond, 200*time.Millisecond)
	p.Budget = retry.NewBudget(0, 0)
	return p
}

// refusing is a way to make a server refuse commands until end is called.
var refusing = map[string]struct {
	command string
	want    retry.Reason
	begin   func(t *testing.T, s *redistest.Server) (end func())
}{
	"READONLY": {"SET k v", retry.ReasonReadOnly, func(t *testing.T, s *redistest.Server) func() {
		s.Admin().Do(t.Context(), "replicaof", "127.0.0.1", "1")
		return func() { s.Admin().Do(t.Context(), "replicaof", "no", "one") }
	}},
	"MASTERDOWN": {"GET k", retry.ReasonMasterDown, func(t *testing.T, s *redistest.Server) func() {
		s.Admin().ConfigSet(t.Context(), "replica-serve-stale-data", "no")
		s.Admin().Do(t.Context(), "replicaof", "127.0.0.1", "1")
		return func() { s.Admin().Do(t.Context(), "replicaof", "no", "one") }
	}},
	"NOREPLICAS": {"SET k v", retry.ReasonNoReplicas, func(t *testing.T, s *redistest.Server) func() {
		s.Admin().ConfigSet(t.Context(), "min-replicas-to-write", "1")
		return func() { s.Admin().ConfigSet(t.Context(), "min-replicas-to-write", "0") }
	}},
	"BUSY": {"GET k", retry.ReasonBusy, func(t *testing.T, s *redistest.Server) func() {
		s.Admin().ConfigSet(t.Context(), "busy-reply-threshold", "1")
		// A busy server takes no handshake, as CLIENT SETNAME is refused.
		killer := s.Admin().Conn()
		killer.Ping(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			s.Admin().Eval(context.Background(), "while true do end", nil)
		}()
		redistest.Eventually(t, "the server is busy", 5*time.Second, func() bool {
			return redis.HasErrorPrefix(killer.Get(t.Context(), "k").Err(), "BUSY")
		})
		return func() {
			if err := killer.ScriptKill(t.Context()).Err(); err != nil {
				t.Error(err)
			}
			<-ended
			killer.Close()
		}
	}},
}

func TestARefusalIsWaitedOutAndCostsNoBudget(t *testing.T) {
	for name, c := range refusing {
		t.Run(name, func(t *testing.T) {
			s := redistest.Start(t)
			s.Admin().Ping(t.Context())
			rdb, h := attach(t, bare(s, s.Addr()), stingy())
			ctx := within(t, 10*time.Second)
			end := c.begin(t, s)
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() {
					if err := rdb.Process(ctx, do(c.command)); err != nil && err != redis.Nil {
						t.Errorf("%s: %v", c.command, err)
					}
				})
			}
			redistest.Eventually(t, "a refusal", 5*time.Second, func() bool { return h.Stats().RetriesByReason[c.want] > 0 })
			end()
			wg.Wait()
			if st := h.Stats(); st.RetriesByReason[c.want] == 0 || st.BudgetRefusals != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

func TestABlockingCommandOfAServerThatBecameAReplicaIsSentAgain(t *testing.T) {
	s := redistest.Start(t)
	ctx := within(t, 10*time.Second)
	rdb, h := attach(t, bare(s, s.Addr()), stingy())
	got := make(chan error, 2)
	pop := func(c *redis.Client) { got <- c.BLPop(ctx, 5*time.Second, "l").Err() }
	blocked := func(n int64) {
		redistest.Eventually(t, "BLPOP blocks", 5*time.Second, func() bool {
			return s.Admin().InfoMap(ctx, "clients").Item("Clients", "blocked_clients") == fmt.Sprint(n)
		})
	}
	plain := redis.NewClient(s.Options())
	defer plain.Close()
	go pop(plain)
	blocked(1)
	s.Admin().Do(ctx, "replicaof", "127.0.0.1", "1")
	if err := <-got; err == nil || retry.Refusal(err) != retry.ReasonUnblocked {
		t.Errorf("bare go-redis: %v", err)
	}
	s.Admin().Do(ctx, "replicaof", "no", "one")

	go pop(rdb)
	blocked(1)
	s.Admin().Do(ctx, "replicaof", "127.0.0.1", "1")
	time.Sleep(20 * time.Millisecond)
	s.Admin().Do(ctx, "replicaof", "no", "one")
	s.Admin().RPush(ctx, "l", "v")
	if err := <-got; err != nil || h.Stats().RetriesByReason[retry.ReasonUnblocked] != 1 {
		t.Errorf("%v, %+v", err, h.Stats())
	}

	// Somebody wants this one to end.
	go pop(rdb)
	blocked(1)
	for _, c := range s.ClientList(t) {
		if c.Cmd == "blpop" {
			s.Admin().ClientUnblockWithError(ctx, c.ID)
		}
	}
	if err := <-got; !redis.HasErrorPrefix(err, "UNBLOCKED") {
		t.Errorf("unblocked by hand: %v", err)
	}
}

// texts are errors that a script makes up after it has written.
var texts = []string{"TRYAGAIN x", "READONLY x", "LOADING x", "CLUSTERDOWN x", "MASTERDOWN x", "NOREPLICAS x", "BUSY x",
	"ERR max number of clients reached", "MOVED 1 127.0.0.1:1", "ASK 1 127.0.0.1:1", "UNBLOCKED force unblock x",
	"LOADING Redis is loading the dataset in memory", "READONLY You can't write against a read only replica.",
	"TRYAGAIN Multiple keys request during rehashing of slot", "CLUSTERDOWN Hash slot not served", "NOREPLICAS Not enough good replicas to write."}

const ownReply = `redis.call('incr', KEYS[1]) return redis.error_reply(%q)`

func TestAScriptThatRepliesLikeAServerRunsOnce(t *testing.T) {
	s := redistest.Start(t)
	ctx := within(t, 60*time.Second)
	rdb, _ := attach(t, bare(s, s.Addr()), quick())
	for _, text := range texts {
		s.Admin().Del(ctx, "k")
		if err := rdb.Eval(ctx, fmt.Sprintf(ownReply, text), []string{"k"}).Err(); err == nil || err.Error() != text {
			t.Errorf("%s: %v", text, err)
		}
		if n := s.Admin().Get(ctx, "k").Val(); n != "1" {
			t.Errorf("%s: ran %s times", text, n)
		}
	}
}

func TestOnAClusterToo(t *testing.T) {
	c, _, client := clusterOf(t)
	ctx := within(t, 60*time.Second)
	rdb, _ := client(true, quick())
	opt := c.Options()
	opt.MinRetryBackoff, opt.MaxRetryBackoff = time.Millisecond, 2*time.Millisecond
	plain := redis.NewClusterClient(opt)
	defer plain.Close()
	key := c.Key(0, "k")
	count := func() string { defer c.Master(0).Admin().Del(ctx, key); return c.Master(0).Admin().Get(ctx, key).Val() }
	plain.Eval(ctx, fmt.Sprintf(ownReply, texts[0]), []string{key})
	if n := count(); n == "1" {
		t.Errorf("bare go-redis ran it %s times: it need not be hidden any more", n)
	}
	for i, text := range texts {
		script := fmt.Sprintf(ownReply, text)
		if err := rdb.Eval(ctx, script, []string{key}).Err(); err == nil || err.Error() != text {
			t.Errorf("%s: %v", text, err)
		}
		if n := count(); n != "1" {
			t.Errorf("%s: ran %s times", text, n)
		}
		if text[:3] == "MOV" || text[:3] == "ASK" {
			continue // in a pipeline go-redis follows them, and nothing of ours is in between
		}
		cmds, _ := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			p.Eval(ctx, script, []string{key})
			for range i % 2 {
				p.Get(ctx, "other")
			}
			return nil
		})
		if err := cmds[0].Err(); err == nil || err.Error() != text {
			t.Errorf("%s in a pipeline: %v", text, err)
		}
		if n := count(); n != "1" {
			t.Errorf("%s in a pipeline: ran %s times", text, n)
		}
		cmds, _ = rdb.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Eval(ctx, script, []string{key}); return nil })
		if err := cmds[0].Err(); err == nil || err.Error() != text {
			t.Errorf("%s in a transaction: %v", text, err)
		}
		if n := count(); n != "1" {
			t.Errorf("%s in a transaction: ran %s times", text, n)
		}
	}
}

func TestAScriptThatTheServerRefusesIsSentAgain(t *testing.T) {
	s := redistest.Start(t)
	rdb, h := attach(t, bare(s, s.Addr()), stingy())
	ctx := within(t, 10*time.Second)
	for _, run := range []func() error{
		func() error { return rdb.Eval(ctx, "return redis.call('incr', KEYS[1])", []string{"k"}).Err() }, // with the server's suffix
		func() error {
			return rdb.Eval(ctx, "#!lua\nreturn redis.call('incr', KEYS[1])", []string{"k"}).Err() // before it starts
		},
	} {
		s.Admin().Do(ctx, "replicaof", "127.0.0.1", "1")
		s.Admin().Del(ctx, "k")
		before := h.Stats().RetriesByReason[retry.ReasonReadOnly]
		done := time.AfterFunc(60*time.Millisecond, func() { s.Admin().Do(ctx, "replicaof", "no", "one") })
		if err := run(); err != nil || h.Stats().RetriesByReason[retry.ReasonReadOnly] == before {
			t.Errorf("%v, %+v", err, h.Stats())
		}
		done.Stop()
	}
	if n := s.Admin().Get(ctx, "k").Val(); n != "2" {
		t.Errorf("ran %s times", n)
	}
}

func TestARefusingServerRefusesConnectionsNotCommands(t *testing.T) {
	s := redistest.Start(t, "--maxclients", "3")
	ctx := within(t, 10*time.Second)
	s.Admin().Ping(ctx)
	p := stingy()
	rdb, h := attach(t, bare(s, s.Addr()), p)
	var others []*redis.Client
	for range 2 {
		o := redis.NewClient(s.Options())
		defer o.Close()
		if err := o.Ping(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		others = append(others, o)
	}
	time.AfterFunc(100*time.Millisecond, func() { others[0].Close() })
	if err := rdb.Incr(ctx, "k").Err(); err != nil {
		t.Error(err)
	}
	if st := h.Stats(); st.RetriesByReason[retry.ReasonMaxClients] == 0 || st.UnknownOutcomes != 0 {
		t.Errorf("%+v", st)
	}
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	again, _ := attach(t, bare(s, s.Addr()), p)
	switch err := again.Incr(short, "k").Err(); {
	case retry.OutcomeOf(err) != retry.NotSent || errors.Is(err, retry.ErrUnknownOutcome):
		t.Errorf("full: %v is %v", err, retry.OutcomeOf(err))
	case err == context.DeadlineExceeded: // while it waited for a dial
	case retry.Refusal(err) != retry.ReasonMaxClients || short.Err() == nil && !redis.IsMaxClientsError(err):
		t.Errorf("full: %v is not recognised", err)
	}
}

func TestAPlainClientDoesNotFollowMoved(t *testing.T) {
	c, _, _ := clusterOf(t)
	rdb, h := attach(t, bare(c.Master(0), c.Master(0).Addr()), quick())
	err := rdb.Get(within(t, 5*time.Second), c.Key(1, "k")).Err()
	if _, ok := redis.IsMovedError(err); !ok || h.Stats().Retries != 0 || retry.Refusal(err) != retry.ReasonMoved {
		t.Errorf("%v, %+v", err, h.Stats())
	}
}
