package ecosystem_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

func watermillPair(t testing.TB, rdb redis.UniversalClient) (*redisstream.Publisher, *redisstream.Subscriber) {
	pub, err := redisstream.NewPublisher(redisstream.PublisherConfig{Client: rdb}, watermill.NopLogger{})
	if err != nil {
		t.Fatal(err)
	}
	sub, err := redisstream.NewSubscriber(redisstream.SubscriberConfig{
		Client: rdb, ConsumerGroup: "group", Consumer: "consumer", BlockTime: 50 * time.Millisecond, DisableIndefiniteInitialBlock: true,
		ClaimInterval: 50 * time.Millisecond, MaxIdleTime: 200 * time.Millisecond,
	}, watermill.NopLogger{})
	if err != nil {
		t.Fatal(err)
	}
	return pub, sub
}

func watermillLibrary() library {
	return library{
		name: "watermill-redisstream", varies: true,
		polls: true,
		play: func(p *play) {
			pub, sub := watermillPair(p.t, p.rdb)
			for i := range 3 {
				p.step("publish", func(ctx context.Context) (any, error) {
					return nil, pub.Publish("topic", message.NewMessageWithContext(ctx, fmt.Sprint(i), []byte(fmt.Sprint("payload ", i))))
				})
			}
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			var messages <-chan *message.Message
			p.step("subscribe", func(context.Context) (_ any, err error) {
				messages, err = sub.Subscribe(ctx, "topic")
				return nil, err
			})
			var received []string
			for range 3 {
				p.step("receive", func(ctx context.Context) (any, error) {
					select {
					case m := <-messages:
						m.Ack()
						received = append(received, m.UUID+" "+string(m.Payload))
						return nil, nil
					case <-ctx.Done():
						return nil, ctx.Err()
					}
				})
			}
			if p.killed { // one that was on its way when its connection was killed comes again, later
				slices.Sort(received)
			}
			p.step("received", func(context.Context) (any, error) { return received, nil })
			p.step("close the subscriber", func(context.Context) (any, error) { return nil, sub.Close() })
			p.step("close the publisher", func(context.Context) (any, error) { return nil, pub.Close() })
		},
		load: func(l *load) {
			pub, sub := watermillPair(l.t, l.rdb)
			messages, err := sub.Subscribe(context.Background(), "topic")
			if err != nil {
				l.t.Fatal(err)
			}
			var (
				number              atomic.Int64
				mu                  sync.Mutex
				published, received = map[string]bool{}, map[string]bool{}
				readers             sync.WaitGroup
			)
			readers.Go(func() {
				for m := range messages {
					mu.Lock()
					received[m.UUID] = true
					mu.Unlock()
					m.Ack()
				}
			})
			l.call = func(ctx context.Context, _ int) error {
				id := fmt.Sprint(number.Add(1))
				err := pub.Publish("topic", message.NewMessageWithContext(ctx, id, []byte("payload")))
				if err == nil {
					mu.Lock()
					published[id] = true
					mu.Unlock()
				}
				return err
			}
			l.check = func() {
				redistest.Eventually(l.t, "each message that was published is received", 3*soon, func() bool {
					mu.Lock()
					defer mu.Unlock()
					for id := range published {
						if !received[id] {
							return false
						}
					}
					return true
				})
			}
			l.end = func() {
				if err := sub.Close(); err != nil {
					l.t.Error(err)
				}
				readers.Wait()
			}
		},
	}
}
