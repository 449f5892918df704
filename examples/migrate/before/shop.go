// Package shop is a program for go-redis: stock, orders and a list of the best
// customers.
package shop

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/redis/go-redis/v9"
)

var errSoldOut = errors.New("sold out")

// Run takes a few orders and writes what became of them.
func Run(ctx context.Context, addr string, out io.Writer) error {
	rdb := redis.NewClient(&redis.Options{Addr: addr, PoolSize: 10})
	defer rdb.Close()

	if err := rdb.Set(ctx, "shop:stock", 3, 0).Err(); err != nil {
		return err
	}
	for _, customer := range []string{"ann", "bob", "ann", "cem"} {
		err := order(ctx, rdb, customer)
		if err != nil && !errors.Is(err, errSoldOut) {
			return err
		}
		fmt.Fprintf(out, "%s: %v\n", customer, err)
	}
	best, err := rdb.ZRevRangeWithScores(ctx, "shop:best", 0, 0).Result()
	if err != nil {
		return err
	}
	for _, z := range best {
		fmt.Fprintf(out, "best customer: %v with %v\n", z.Member, z.Score)
	}
	return rdb.Del(ctx, "shop:stock", "shop:best").Err()
}

// order takes one from the stock, if there is any left.
func order(ctx context.Context, rdb redis.UniversalClient, customer string) error {
	take := func(tx *redis.Tx) error {
		left, err := tx.Get(ctx, "shop:stock").Int()
		if err != nil {
			return err
		}
		if left == 0 {
			return errSoldOut
		}
		_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Decr(ctx, "shop:stock")
			p.ZIncrBy(ctx, "shop:best", 1, customer)
			return nil
		})
		return err
	}
	for {
		err := rdb.Watch(ctx, take, "shop:stock")
		if !errors.Is(err, redis.TxFailedErr) { // else somebody was faster: look again
			return err
		}
	}
}
