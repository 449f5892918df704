package managed

import (
	"sync"

	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/redisopt"
)

// shared holds the clients of Shared, by URL.
var shared struct {
	sync.Mutex
	byURL map[string]*sharedClient
}

type sharedClient struct {
	client *Client
	users  int
}

// Shared returns a handle on the one client of this process for url, so that independent packages
// share one pool. The first call makes the client, with its options; those of later calls are
// ignored. Close each handle once; the last Close closes the client. Nothing is dialed. URLs are
// compared as text.
func Shared(url string, opts ...Option) (*Client, error) {
	shared.Lock()
	defer shared.Unlock()
	s := shared.byURL[url]
	if s == nil {
		opt, err := redisopt.ParseURL(url)
		if err != nil {
			return nil, err
		}
		c, err := New(opt, opts...)
		if err != nil {
			return nil, err
		}
		s = &sharedClient{client: c}
		if shared.byURL == nil {
			shared.byURL = make(map[string]*sharedClient)
		}
		shared.byURL[url] = s
	}
	s.users++
	c := *s.client
	c.own = &handle{close: func() error { return leaveShared(url, s) }}
	c.cloneForHandle()
	return &c, nil
}

// cloneForHandle gives a handle its own client over the shared pools, so that it can be closed
// while others remain open.
func (c *Client) cloneForHandle() {
	opt := c.unit.rdb.Options()
	c.Client = c.unit.rdb.WithTimeout(opt.ReadTimeout)
	c.Client.Options().WriteTimeout = opt.WriteTimeout // it has its own copy
	through := *c.unit.hook
	through.Closed = c.own.closed.Load
	c.through, c.users = &through, &conntrack.UserHooks{}
	through.Install(c.Client, c.users, nil)
}

func leaveShared(url string, s *sharedClient) error {
	shared.Lock()
	s.users--
	last := s.users == 0
	if last {
		delete(shared.byURL, url)
	}
	shared.Unlock()
	if !last {
		return nil
	}
	return s.client.closeNow()
}
