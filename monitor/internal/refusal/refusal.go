// Package refusal finds out why a server closed a connection at once.
package refusal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// dialFor and readFor bound a check.
	dialFor = time.Second
	readFor = 200 * time.Millisecond
	// full is what a server with maxclients connections says to the next one.
	full = "ERR max number of clients reached"
)

// answer is an error that the server answered with.
type answer string

func (a answer) Error() string { return string(a) }
func (answer) RedisError()     {}

// Cause is err, or what the server says to a new connection, if err is that of a
// connection that ended while something was asked for. A server that has no room says
// so and closes, and who writes to it gets "broken pipe" before that is read: so this
// connects once more, and only reads.
func Cause(rdb any, err error) error {
	c, ok := rdb.(interface{ Options() *redis.Options })
	if !ok || !ended(err) {
		return err
	}
	opt := c.Options()
	if opt == nil || opt.Dialer == nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialFor)
	defer cancel()
	conn, dialErr := opt.Dialer(ctx, opt.Network, opt.Addr)
	if dialErr != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(readFor))
	buf := make([]byte, 200)
	n, _ := io.ReadAtLeast(conn, buf, len(full)+1)
	if strings.HasPrefix(string(buf[:n]), "-"+full) {
		return fmt.Errorf("%w (%w)", answer(full), err)
	}
	return err
}

func ended(err error) bool {
	var said redis.Error
	return err != nil && !errors.As(err, &said) &&
		(errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ECONNABORTED))
}
