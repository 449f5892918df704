package command

import (
	"encoding"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// RunsCallersCode reports whether go-redis may run code of the caller's while it writes cmd or reads its
// reply: the MarshalBinary of an argument, or the io.Writer of the reply.
func RunsCallersCode(cmd redis.Cmder) bool {
	a := Args(cmd.Args())
	for i := range a {
		if _, ok := a.Text(i); !ok {
			return true
		}
	}
	return cmd.NoRetry()
}

// WritesReply reports whether go-redis passes the reply of cmd, also an error, on to an io.Writer of the
// caller's. It has one other command that it does not send again, which fills a buffer.
func WritesReply(cmd redis.Cmder) bool {
	_, fills := cmd.(*redis.ZeroCopyStringCmd)
	return cmd.NoRetry() && !fills
}

// CannotBeWritten reports whether err is the one of an argument of cmd that go-redis cannot write,
// because of its type or because its MarshalBinary fails: the server has got nothing of cmd, or only
// a part. MarshalBinary is called again to find out.
func CannotBeWritten(cmd redis.Cmder, err error) bool {
	a := Args(cmd.Args())
	for i := range a {
		if _, ok := a.Text(i); ok {
			continue
		}
		m, ok := a[i].(encoding.BinaryMarshaler)
		if !ok {
			if err.Error() == fmt.Sprintf("redis: can't marshal %T (implement encoding.BinaryMarshaler)", a[i]) {
				return true
			}
			continue
		}
		if _, e := m.MarshalBinary(); e != nil && (errors.Is(err, e) || err.Error() == e.Error()) {
			return true
		}
	}
	return false
}
