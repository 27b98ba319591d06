// SPDX-License-Identifier: Apache-2.0

package microreg

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// What an option that is not set means.
const (
	DefaultAddress  = "127.0.0.1:8500"
	DefaultPort     = "8500"
	DefaultTimeout  = 5 * time.Second
	DefaultProgress = 3 * time.Second
)

// Reads says how fresh an answer must be.
type Reads int

const (
	// Default reads tell what the leader has committed.
	Default Reads = iota
	// Stale reads tell any server's own state, also when there is no leader.
	Stale
	// Consistent reads make the leader ask the other servers first.
	Consistent
)

// Transport names what speaks with the registry.
type Transport int

const (
	// Auto is C where it is compiled in, else NetHTTP.
	Auto Transport = iota
	// C is libmicroreg.
	C
	// NetHTTP is Go's net/http.
	NetHTTP
)

// Options say how to reach the registry. The zero value is a registry on this
// machine.
type Options struct {
	// Addrs are tried in this order: "host", "host:port", "[ipv6]:port", with
	// http:// or https:// before it. A missing port is 8500. Without any, the
	// environment's MICROREG_HTTP_ADDR, else CONSUL_HTTP_ADDR, else
	// 127.0.0.1:8500.
	Addrs []string
	// Timeout is the deadline of a call. 5 s.
	Timeout time.Duration
	// Progress is how often the registry says that a quiet stream lives; after
	// twice that time of silence another server is asked. 3 s.
	Progress time.Duration
	// Secure asks for TLS at addresses without a scheme.
	Secure bool
	// Insecure is TLS without a look at the server's certificate.
	Insecure bool
	// CAFile, CertFile and KeyFile are PEM files: who may have signed the
	// server's certificate (default: the system's), our certificate, its key.
	CAFile, CertFile, KeyFile string
	// ServerName is expected in the certificate instead of the host.
	ServerName string
	// TLSConfig, for what files cannot say. Needs the NetHTTP transport, which
	// Auto chooses then; the five options above are not looked at.
	TLSConfig *tls.Config
	// Token is sent with each request. Default: the environment's
	// MICROREG_HTTP_TOKEN, else CONSUL_HTTP_TOKEN.
	Token string
	// Incarnation grows with each start of the program (a clock reading will
	// do): an older one can neither replace nor remove what a newer one
	// registered under the same node ID. 0: no such check.
	Incarnation uint64
	// Reads is how fresh answers must be.
	Reads Reads
	// Watched answers GetService from memory while the service is being
	// watched and the stream lives. What this client wrote itself is in it;
	// what others wrote, a moment later.
	Watched bool
	// Transport is what speaks with the registry.
	Transport Transport
	// Log is told what happens in the background. It must not call the client.
	Log func(text string)
}

// A Setting changes options: what the backends take in their With option.
type Setting func(*Options)

// Token sets Options.Token.
func Token(token string) Setting { return func(o *Options) { o.Token = token } }

// Certificates sets Options.CAFile, CertFile and KeyFile, and Secure.
func Certificates(caFile, certFile, keyFile string) Setting {
	return func(o *Options) {
		o.CAFile, o.CertFile, o.KeyFile, o.Secure = caFile, certFile, keyFile, true
	}
}

// ServerName sets Options.ServerName.
func ServerName(name string) Setting {
	return func(o *Options) { o.ServerName = name }
}

// ReadMode sets Options.Reads.
func ReadMode(reads Reads) Setting { return func(o *Options) { o.Reads = reads } }

// FromWatch sets Options.Watched.
func FromWatch() Setting { return func(o *Options) { o.Watched = true } }

// Incarnation sets Options.Incarnation.
func Incarnation(number uint64) Setting {
	return func(o *Options) { o.Incarnation = number }
}

// Via sets Options.Transport.
func Via(transport Transport) Setting {
	return func(o *Options) { o.Transport = transport }
}

// Log sets Options.Log.
func Log(log func(text string)) Setting { return func(o *Options) { o.Log = log } }

// An endpoint is a server's address.
type endpoint struct {
	hostPort string
	secure   bool
}

// filled returns the options with the defaults in them, and the servers. An
// address or a number that makes no sense is an error.
func (o Options) filled() (Options, []endpoint, error) {
	if o.Timeout < 0 || o.Progress < 0 {
		return o, nil, &failure{ErrInvalid, "a timeout is negative"}
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Progress == 0 {
		o.Progress = DefaultProgress
	}
	o.Timeout = max(time.Millisecond, min(o.Timeout, 24*time.Hour))
	o.Progress = max(time.Second, min(o.Progress, 10*time.Minute))
	if o.Token == "" {
		o.Token = environment("MICROREG_HTTP_TOKEN", "CONSUL_HTTP_TOKEN")
	}
	for _, text := range []string{o.Token, o.CAFile, o.CertFile, o.KeyFile, o.ServerName} {
		if strings.ContainsAny(text, "\x00\r\n") {
			return o, nil, &failure{ErrInvalid,
				"an option has a line break or a NUL in it"}
		}
	}
	var servers []endpoint
	for _, address := range o.Addrs {
		for _, one := range strings.Split(address, ",") {
			if strings.TrimSpace(one) == "" {
				continue
			}
			server, err := parseAddress(strings.TrimSpace(one), o.Secure)
			if err != nil {
				return o, nil, err
			}
			servers = append(servers, server)
		}
	}
	if len(servers) > 0 {
		return o, servers, nil
	}
	fallback := environment("MICROREG_HTTP_ADDR", "CONSUL_HTTP_ADDR")
	if fallback == "" {
		fallback = DefaultAddress
	}
	o.Addrs = []string{fallback}
	server, err := parseAddress(fallback, o.Secure)
	return o, []endpoint{server}, err
}

func environment(names ...string) string {
	for _, name := range names {
		if value := os.Getenv(name); value != "" {
			return value
		}
	}
	return ""
}

// parseAddress adds what is missing to an address.
func parseAddress(address string, secure bool) (endpoint, error) {
	rest := strings.TrimSuffix(address, "/")
	if after, ok := strings.CutPrefix(rest, "https://"); ok {
		rest, secure = after, true
	} else if after, ok := strings.CutPrefix(rest, "http://"); ok {
		rest, secure = after, false
	}
	host, port := rest, DefaultPort
	if bare := strings.Trim(rest, "[]"); net.ParseIP(bare) != nil {
		host = bare // An IPv6 address without a port has colons, too.
	} else if strings.Contains(rest, ":") {
		var err error
		if host, port, err = net.SplitHostPort(rest); err != nil {
			return endpoint{}, badAddress(address)
		}
	}
	if number, err := strconv.Atoi(port); err != nil || number < 1 || number > 65535 {
		return endpoint{}, badAddress(address)
	}
	if host == "" || strings.IndexFunc(host, isNoHost) >= 0 {
		return endpoint{}, badAddress(address)
	}
	return endpoint{net.JoinHostPort(host, port), secure}, nil
}

// isNoHost says whether a character cannot be in a host's name or address.
func isNoHost(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune("/?#@", r) }

func badAddress(address string) error {
	return &failure{ErrInvalid, fmt.Sprintf(
		"%q is no address of a server: host, host:port or [ipv6]:port", address)}
}
