package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/redis/go-redis/v9"
)

// Limits of a request.
const (
	maxBody = 64 << 10
	maxKey  = 200
	maxTTL  = 30 * 24 * time.Hour

	requestWithin = 2 * time.Second
)

// newAPI serves keys. The handlers use the API of go-redis only: rdb may be any of
// its clients.
func newAPI(rdb redis.UniversalClient) http.Handler {
	a := &api{rdb: rdb}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/keys/{key}", a.wrap(a.get))
	mux.HandleFunc("PUT /v1/keys/{key}", a.wrap(a.put))
	mux.HandleFunc("DELETE /v1/keys/{key}", a.wrap(a.del))
	mux.HandleFunc("POST /v1/keys/{key}/incr", a.wrap(a.incr))
	mux.HandleFunc("GET /healthz", a.health)
	return mux
}

type api struct{ rdb redis.UniversalClient }

// wrap gives a request its deadline, and its response a status. What f returns is
// sent as JSON; nil is 204.
func (a *api) wrap(f func(ctx context.Context, key string, r *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), requestWithin)
		defer cancel()
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		key := r.PathValue("key")
		if len(key) > maxKey {
			fail(w, badRequest(fmt.Sprintf("a key has at most %d bytes", maxKey)))
			return
		}
		body, err := f(ctx, key, r)
		switch {
		case err != nil:
			fail(w, err)
		case body == nil:
			w.WriteHeader(http.StatusNoContent)
		default:
			reply(w, http.StatusOK, body)
		}
	}
}

type value struct {
	Value string `json:"value"`
	TTL   int64  `json:"ttl_ms,omitempty"` // 0: for ever
}

func (a *api) get(ctx context.Context, key string, _ *http.Request) (any, error) {
	var text *redis.StringCmd
	var ttl *redis.DurationCmd
	_, err := a.rdb.Pipelined(ctx, func(p redis.Pipeliner) error { // one round trip
		text, ttl = p.Get(ctx, key), p.PTTL(ctx, key)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return value{text.Val(), max(ttl.Val().Milliseconds(), 0)}, nil
}

func (a *api) put(ctx context.Context, key string, r *http.Request) (any, error) {
	var v value
	if err := read(r, &v); err != nil {
		return nil, err
	}
	if v.TTL < 0 || v.TTL > maxTTL.Milliseconds() {
		return nil, badRequest(fmt.Sprintf("ttl_ms: from 0, which is for ever, to %d", maxTTL.Milliseconds()))
	}
	return nil, a.rdb.Set(ctx, key, v.Value, time.Duration(v.TTL)*time.Millisecond).Err()
}

func (a *api) del(ctx context.Context, key string, _ *http.Request) (any, error) {
	n, err := a.rdb.Del(ctx, key).Result()
	if err == nil && n == 0 {
		err = redis.Nil
	}
	return nil, err
}

func (a *api) incr(ctx context.Context, key string, r *http.Request) (any, error) {
	by := struct {
		By int64 `json:"by"`
	}{1}
	if err := read(r, &by); err != nil {
		return nil, err
	}
	n, err := a.rdb.IncrBy(ctx, key, by.By).Result()
	if err != nil {
		return nil, err
	}
	return map[string]int64{"value": n}, nil
}

// health is for load balancers: a PING with a short deadline.
func (a *api) health(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 500*time.Millisecond)
	defer cancel()
	if err := a.rdb.Ping(ctx).Err(); err != nil {
		fail(w, err)
		return
	}
	reply(w, http.StatusOK, map[string]string{"status": "ok"})
}

// read decodes JSON and refuses unknown fields; an empty body leaves v unchanged.
func read(r *http.Request, v any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case errors.As(err, &tooLarge):
		return err
	case err != nil:
		return badRequest("the body: " + err.Error())
	case d.More():
		return badRequest("the body: more than one value")
	}
	return nil
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
