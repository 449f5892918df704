package batch

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const maxArgument = 8 << 10 // bytes: longer arguments would delay the other commands of the batch

// portable reports whether another goroutine can send the arguments, whatever their owner does
// meanwhile, without go-redis failing to write them. With clone, bytes are copied, for an owner
// that may return early.
func portable(args []any, clone bool) bool {
	for i, arg := range args {
		switch v := arg.(type) {
		case string:
			if len(v) > maxArgument {
				return false
			}
		case []byte:
			if len(v) > maxArgument {
				return false
			}
			if clone {
				args[i] = bytes.Clone(v)
			}
		case nil, int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64, float32, float64, bool,
			time.Time, time.Duration:
		default:
			return false
		}
	}
	return true
}

// commandMaker is a client that only makes commands: go-redis has no other public way to make them.
// It holds no connection and no goroutine.
var commandMaker = sync.OnceValue(func() *redis.Client {
	c := redis.NewClient(&redis.Options{
		Addr: "nowhere",
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("lifeguard/managed: this client is not for sending")
		},
		PoolSize: 1, PipelinePoolSize: -1, MaxRetries: -1, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	c.AddHook(makerHook{})
	return c
})

// makerHook ends every command before it is sent.
type makerHook struct{}

func (makerHook) DialHook(next redis.DialHook) redis.DialHook { return next }
func (makerHook) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(context.Context, redis.Cmder) error { return nil }
}
func (makerHook) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(context.Context, []redis.Cmder) error { return nil }
}
