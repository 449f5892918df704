package otel

import (
	"net"
	"strconv"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/lifeguard-redis/lifeguard/monitor/internal/export"
)

const (
	scopeName = "github.com/lifeguard-redis/lifeguard/monitor/otel"
	prefix    = "lifeguard."
)

// attributes returns the attributes of a point. The pool's name is that of the client, with the
// name of one of its pools if the point is about one: "cache/main".
func (s *settings) attributes(p *export.Point) attribute.Set {
	pool := s.client
	kvs := append([]attribute.KeyValue{semconv.DBSystemNameRedis}, s.attrs...)
	if p.Node != "" {
		kvs = append(kvs, server(p.Node)...)
	}
	for i, name := range p.Family.Labels {
		switch v := p.Labels[i]; name {
		case "pool":
			pool += "/" + v
		case "state":
			if v == "idle" {
				kvs = append(kvs, semconv.DBClientConnectionStateIdle)
			} else {
				kvs = append(kvs, semconv.DBClientConnectionStateUsed)
			}
		default:
			kvs = append(kvs, attribute.String(prefix+name, v))
		}
	}
	kvs = append(kvs, semconv.DBClientConnectionPoolName(pool))
	return attribute.NewSet(kvs...)
}

// server returns the address attributes of a node. An address without host and port, such as that
// of a Unix socket, is kept as a whole.
func server(node string) []attribute.KeyValue {
	if host, port, err := net.SplitHostPort(node); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err == nil {
			return []attribute.KeyValue{semconv.ServerAddress(host), semconv.ServerPort(int(n))}
		}
	}
	return []attribute.KeyValue{semconv.ServerAddress(node)}
}

// own reports whether points have an attribute of that name themselves.
func own(key attribute.Key) bool {
	switch key {
	case semconv.DBSystemNameKey, semconv.DBClientConnectionPoolNameKey, semconv.DBClientConnectionStateKey, semconv.ServerAddressKey, semconv.ServerPortKey,
		semconv.DBOperationNameKey, semconv.ErrorTypeKey, semconv.DBResponseStatusCodeKey:
		return true
	}
	return len(key) >= len(prefix) && key[:len(prefix)] == prefix
}

func validName(client string) bool { return client != "" && utf8.ValidString(client) }
