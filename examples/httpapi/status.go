package main

import (
	"context"
	"errors"
	"log"
	"net/http"
	"os"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// badRequest is an error in the request; its text says which.
type badRequest string

func (e badRequest) Error() string { return string(e) }

// status returns the HTTP status of an error, and a code for programs.
//
//	400 bad_request      the request is invalid
//	404 not_found        there is no such key
//	409 conflict         the key holds a value of another type
//	413 too_large        the body is too long
//	502 outcome_unknown  it may have been executed: check before you repeat it
//	502 redis            Redis refused; the log has the reason
//	503 busy             no connection was free in time: not executed, try again
//	503 unavailable      Redis is unreachable or this server is shutting down: not executed, try again
//	504 timeout          not executed before the deadline of the request
func status(err error) (code int, name string) {
	var (
		bad      badRequest
		tooLarge *http.MaxBytesError
		conn     *hooks.ConnError
		answer   redis.Error
	)
	switch {
	case errors.As(err, &bad):
		return http.StatusBadRequest, "bad_request"
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge, "too_large"
	case errors.Is(err, redis.Nil):
		return http.StatusNotFound, "not_found"
	case errors.Is(err, retry.ErrUnknownOutcome): // first, because it may wrap any of those below
		return http.StatusBadGateway, "outcome_unknown"
	case errors.Is(err, redis.ErrPoolTimeout):
		return http.StatusServiceUnavailable, "busy"
	case errors.Is(err, retry.ErrBreakerOpen), errors.Is(err, redis.ErrClosed), // ErrShutdown, too
		errors.As(err, &conn) && conn.Unsent():
		return http.StatusServiceUnavailable, "unavailable"
	case errors.As(err, &answer):
		if strings.HasPrefix(answer.Error(), "WRONGTYPE") || strings.Contains(answer.Error(), "not an integer") {
			return http.StatusConflict, "conflict"
		}
		return http.StatusBadGateway, "redis"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded): // of the request, of a reply
		return http.StatusGatewayTimeout, "timeout"
	}
	return http.StatusBadGateway, "redis"
}

// fail answers with an error. Callers learn what happened; the whole error, with
// addresses and call sites, is for the log.
func fail(w http.ResponseWriter, err error) {
	code, name := status(err)
	body := map[string]string{"error": name}
	switch {
	case code == http.StatusBadRequest:
		body["reason"] = err.Error()
	case code == http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	}
	if code >= 500 {
		log.Print("httpapi: ", name, ": ", err)
	}
	reply(w, code, body)
}
