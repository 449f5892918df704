package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	sessionFor = 30 * time.Minute
	cachedFor  = time.Minute
	products   = 20
)

// shop is the application. It is the same for both sides: only where its Redis
// client comes from differs.
type shop struct {
	cache  cache
	db     *database
	prefix string
}

func (s *shop) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /products/{id}", s.product)
	return mux
}

type page struct {
	Product product `json:"product"`
	Cached  bool    `json:"cached"`
	Visits  int64   `json:"visits"` // of this session; 0: not known
}

func (s *shop) product(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.Atoi(r.PathValue("id"))
	if err != nil || id < 1 || id > products {
		http.Error(w, "no such product", http.StatusNotFound)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	// Redis gets a part of that: if it is unreachable, there is time for the database.
	rctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	rdb, done := s.cache.client()
	defer done()

	var p page
	if p.Visits, err = s.visit(rctx, rdb, w, r); err != nil {
		log.Print("webcache: session: ", err) // the page is worth more than the counter
	}
	if p.Product, p.Cached, err = s.load(ctx, rctx, rdb, id); err != nil {
		http.Error(w, "try again later", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(p)
}

// visit counts the visits of a session. The two commands are one transaction,
// in one round trip.
func (s *shop) visit(ctx context.Context, rdb redis.Cmdable, w http.ResponseWriter, r *http.Request) (int64, error) {
	var id string
	if c, err := r.Cookie("session"); err == nil && len(c.Value) == 26 {
		id = c.Value
	} else {
		id = rand.Text()
		http.SetCookie(w, &http.Cookie{Name: "session", Value: id, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode,
			MaxAge: int(sessionFor / time.Second)})
	}
	key := s.prefix + "session:" + id
	var visits *redis.IntCmd
	_, err := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		visits = p.HIncrBy(ctx, key, "visits", 1)
		p.Expire(ctx, key, sessionFor)
		return nil
	})
	if err != nil {
		return 0, err
	}
	return visits.Val(), nil
}

// load is cache-aside: it reads the cache, else the database, and then fills the
// cache. Without Redis the shop is slow, but works. rctx is the ctx for Redis.
func (s *shop) load(ctx, rctx context.Context, rdb redis.Cmdable, id int) (p product, cached bool, err error) {
	key := s.prefix + "product:" + strconv.Itoa(id)
	text, err := rdb.Get(rctx, key).Bytes()
	if err == nil {
		if err = json.Unmarshal(text, &p); err == nil {
			return p, true, nil
		}
	}
	if !errors.Is(err, redis.Nil) {
		log.Print("webcache: cache: ", err)
	}
	if p, err = s.db.read(ctx, id); err != nil {
		return p, false, err
	}
	if text, err = json.Marshal(p); err == nil {
		err = rdb.Set(rctx, key, text, cachedFor).Err()
	}
	if err != nil {
		log.Print("webcache: cache: ", err)
	}
	return p, false, nil
}

type product struct {
	ID    int    `json:"id"`
	Name  string `json:"name"`
	Cents int    `json:"cents"`
}

// database simulates a slow one.
type database struct {
	delay time.Duration
	reads atomic.Int64
}

func (d *database) read(ctx context.Context, id int) (product, error) {
	d.reads.Add(1)
	select {
	case <-time.After(d.delay):
		return product{ID: id, Name: "product " + strconv.Itoa(id), Cents: 100 * id}, nil
	case <-ctx.Done():
		return product{}, ctx.Err()
	}
}
