package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// faulty collects what must not be. The first ones are kept in full.
type faulty struct {
	mu    sync.Mutex
	n     int
	first []string
}

func (f *faulty) add(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n++; len(f.first) < 10 {
		f.first = append(f.first, fmt.Sprintf(format, args...))
	}
}

func (f *faulty) report(t testing.TB) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.first {
		t.Error(s)
	}
	if more := f.n - len(f.first); more > 0 {
		t.Errorf("and %d more", more)
	}
	f.n, f.first = 0, nil
}

type told int

const (
	success told = iota
	unknown
	refused // an error which says that it did not happen
)

func (o told) String() string { return [...]string{"success", "an unknown outcome", "an error"}[o] }

func toldBy(err error) told {
	switch {
	case err == nil:
		return success
	case errors.Is(err, retry.ErrUnknownOutcome):
		return unknown
	}
	return refused
}

// book is what callers were told about writes. Each has a key of its own, which
// it counts up (want "1") or sets to its own name. Nothing is written to a key
// by two calls, so that a write which arrives late can be told from a double one.
type book struct {
	mu    sync.Mutex
	notes map[string]note
	pairs [][2]string // written by one transaction each
}

type note struct {
	told told
	err  error
	want string
}

func newBook() *book { return &book{notes: map[string]note{}} }

func (b *book) note(key, want string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := note{told: toldBy(err), want: want}
	if n.told == refused {
		n.err = err
	}
	b.notes[key] = n
}

func (b *book) pair(x, y string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pairs = append(b.pairs, [2]string{x, y})
}

// summary is what the comparison gave.
type summary struct{ writes, unknown, happened, refused int }

func (s summary) String() string {
	return fmt.Sprintf("%d writes, %d unknown outcomes of which %d had happened, %d errors", s.writes, s.unknown, s.happened, s.refused)
}

// reconcile compares what callers were told with the servers, call by call. get
// returns a nil for each key that is not there.
func (b *book) reconcile(t testing.TB, get func(keys []string) []any) summary {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	var bad faulty
	sum := summary{writes: len(b.notes)}
	keys := make([]string, 0, len(b.notes))
	for k := range b.notes {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	there := make(map[string]bool, len(keys))
	for part := range slices.Chunk(keys, 500) {
		for i, v := range get(part) {
			key := part[i]
			n := b.notes[key]
			there[key] = v != nil
			switch {
			case v != nil && v != n.want:
				bad.add("%s: told %v; it is %v, not %s", key, n.told, v, n.want)
			case n.told == success && v == nil:
				bad.add("%s: told success, and is lost", key)
			case n.told == refused && v != nil:
				bad.add("%s: happened, and its error does not say that it might have: %v", key, n.err)
			}
			switch n.told {
			case unknown:
				sum.unknown++
				if v != nil {
					sum.happened++
				}
			case refused:
				sum.refused++
			}
		}
	}
	for _, p := range b.pairs {
		if there[p[0]] != there[p[1]] {
			bad.add("half a transaction: %s %v, %s %v", p[0], there[p[0]], p[1], there[p[1]])
		}
	}
	bad.report(t)
	return sum
}

// answers that a server gives while it is in trouble, each of which says that
// the command was not carried out.
var troubled = []string{"READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "UNBLOCKED", "EXECABORT", "MOVED", "ASK", "NOREPLICAS"}

// ordinary reports whether an error is one that callers have to expect under
// these faults.
func ordinary(err error) bool {
	var se redis.Error
	var ne net.Error
	var ce *hooks.ConnError
	switch {
	case err == nil, errors.Is(err, retry.ErrUnknownOutcome), errors.Is(err, retry.ErrBreakerOpen),
		errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.TxFailedErr),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &ce), errors.As(err, &ne):
		return true
	case errors.As(err, &se):
		return slices.ContainsFunc(troubled, func(p string) bool { return strings.HasPrefix(se.Error(), p+" ") })
	}
	return retry.OutcomeOf(err) == retry.NotSent
}

// uncertain makes ErrUnknownOutcome of what only OutcomeOf calls unknown: on
// connections of one's own the error is the connection's.
func uncertain(err error) error {
	if err != nil && retry.OutcomeOf(err) == retry.Unknown && !errors.Is(err, retry.ErrUnknownOutcome) {
		return fmt.Errorf("%w: %w", retry.ErrUnknownOutcome, err)
	}
	return err
}
