// Package target is the server that a command talks to: its configuration from the command line,
// the environment and files, and the connection to it.
package target

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// DefaultTimeout is how long a server may take to reply unless Config.Timeout says otherwise.
const DefaultTimeout = 5 * time.Second

// Config says which server, and how. The zero value is localhost:6379.
type Config struct {
	URL      string // redis://, rediss:// or unix://; excludes Host, Port and Socket
	URLFrom  string // where the URL comes from, for errors; "" is --url
	Host     string // default 127.0.0.1
	Port     int    // default 6379
	Socket   string // path of a Unix socket
	User     string // name in the ACL
	Pass     string
	DB       int
	SetDB    bool // DB holds, else that of the URL
	TLS      bool
	CACert   string         // file of the authorities to trust, instead of the system's
	Cert     string         // file of our certificate
	Key      string         // file of its key
	SNI      string         // name to ask for, and to find in the certificate
	Insecure bool           // do not check the certificate
	Cluster  bool           // all nodes of the cluster that the server belongs to
	Timeout  time.Duration  // to connect and for each reply; default DefaultTimeout
	Base     *redis.Options // from an options file; the other fields override it
}

// ParseURL is redis.ParseURL with errors that show no part of the URL: any part could be a password.
func ParseURL(raw string) (*redis.Options, error) {
	opt, err := redis.ParseURL(raw)
	if err != nil {
		return nil, fmt.Errorf("malformed: %s; want redis://user:password@host:port/db, rediss:// for TLS, or unix:///path", flaw(raw))
	}
	return opt, nil
}

// flaw says what is wrong with a URL.
func flaw(raw string) string {
	const encode = "characters such as @ / : # ? % in a password must be percent-encoded"
	u, err := url.Parse(raw)
	switch {
	case raw == "":
		return "it is empty"
	case !strings.Contains(raw, "://"):
		return "it does not begin with a scheme and ://"
	case err != nil:
		return "the port is not a number, or " + encode
	case u.Scheme != "redis" && u.Scheme != "rediss" && u.Scheme != "unix":
		return "its scheme is not redis, rediss or unix"
	case u.RawQuery != "":
		return "an option after the ? is unknown or has a wrong value, or " + encode
	case u.Path != "" && u.Path != "/":
		return "what follows host and port is not the number of a database, or " + encode
	}
	return encode
}

// URLName returns where the URL comes from.
func (c Config) URLName() string { return cmp.Or(c.URLFrom, "--url") }

// Options returns the options of a client as configured, with nothing of our own: what a program
// with these settings would use. Errors name the flag.
func (c Config) Options() (*redis.Options, error) {
	opt := &redis.Options{}
	switch {
	case c.Base != nil:
		clone := *c.Base
		opt = &clone
	}
	if c.URL != "" {
		if c.Host != "" || c.Port != 0 || c.Socket != "" {
			return nil, errors.New("--url excludes --host, --port and --socket")
		}
		fromURL, err := ParseURL(c.URL)
		if err != nil {
			return nil, fmt.Errorf("%s is %w", c.URLName(), err)
		}
		if c.Base == nil {
			opt = fromURL
		} else {
			opt.Network, opt.Addr, opt.TLSConfig, opt.DB = fromURL.Network, fromURL.Addr, fromURL.TLSConfig, fromURL.DB
			opt.Username, opt.Password = fromURL.Username, fromURL.Password
		}
	}
	switch {
	case c.Socket != "" && (c.Host != "" || c.Port != 0):
		return nil, errors.New("--socket excludes --host and --port")
	case c.Port < 0 || c.Port > 65535:
		return nil, fmt.Errorf("--port %d: must be 1 to 65535", c.Port)
	case c.Timeout < 0:
		return nil, fmt.Errorf("--timeout %v: must be above 0", c.Timeout)
	case c.DB < 0:
		return nil, fmt.Errorf("--db %d: must be 0 or more", c.DB)
	case c.Socket != "":
		opt.Network, opt.Addr = "unix", c.Socket
	case c.Host != "" || c.Port != 0 || opt.Addr == "":
		host, port := c.Host, c.Port
		if host == "" {
			host = "127.0.0.1"
		}
		if port == 0 {
			port = 6379
		}
		opt.Network, opt.Addr = "tcp", net.JoinHostPort(host, strconv.Itoa(port))
	}
	if c.User != "" {
		opt.Username = c.User
	}
	if c.Pass != "" {
		opt.Password = c.Pass
	}
	if c.SetDB {
		opt.DB = c.DB
	}
	if err := c.tls(opt); err != nil {
		return nil, err
	}
	return opt, nil
}

func (c Config) tls(opt *redis.Options) error {
	if c.TLS && opt.TLSConfig == nil {
		opt.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if opt.TLSConfig == nil {
		if c.CACert != "" || c.Cert != "" || c.Key != "" || c.SNI != "" || c.Insecure {
			return errors.New("--cacert, --cert, --key, --sni and --insecure need --tls, or a URL with rediss://")
		}
		return nil
	}
	t := opt.TLSConfig.Clone()
	if t.ServerName == "" && opt.Network != "unix" {
		if host, _, err := net.SplitHostPort(opt.Addr); err == nil && !c.Cluster {
			t.ServerName = host
		}
	}
	if c.SNI != "" {
		t.ServerName = c.SNI
	}
	t.InsecureSkipVerify = t.InsecureSkipVerify || c.Insecure
	if c.CACert != "" {
		pem, err := os.ReadFile(c.CACert)
		if err != nil {
			return fmt.Errorf("--cacert: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("--cacert %s: no certificate in PEM in it", c.CACert)
		}
	}
	if (c.Cert == "") != (c.Key == "") {
		return errors.New("--cert and --key belong together")
	}
	if c.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return fmt.Errorf("--cert and --key: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	opt.TLSConfig = t
	return nil
}

// Loopback reports whether the address is on this machine.
func Loopback(opt *redis.Options) bool {
	if opt.Network == "unix" {
		return true
	}
	host, _, err := net.SplitHostPort(opt.Addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
