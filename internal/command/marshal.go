package command

import (
	"encoding"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

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
