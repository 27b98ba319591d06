// SPDX-License-Identifier: Apache-2.0

package microreg

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// What the registry takes.
const (
	minTTL  = time.Second
	maxTTL  = 24 * time.Hour
	maxName = 160
)

// A Client is a connection to a registry, made when it is needed. Its methods
// may be called by any goroutine. One that is forgotten is closed by the garbage
// collector, once its watchers are stopped or forgotten too.
type Client struct {
	mu      sync.Mutex
	options Options
	servers []endpoint
	wire    transport // nil until the first call.
	closed  bool
}

// New returns a client. It dials nothing and does not fail: options that make
// no sense, and servers that cannot be reached, are errors of the calls.
func New(options Options) *Client {
	c := &Client{options: options}
	runtime.SetFinalizer(c, func(c *Client) { go c.Close() }) // It may wait.
	return c
}

// Configure changes the options: from now on also for watchers that are open,
// when only addresses differ. Otherwise these end with ErrStopped, and have to be
// opened again; calls in progress end as if nothing had changed. On an error the
// old options stay.
func (c *Client) Configure(options Options) error {
	filled, servers, err := options.filled()
	if err == nil {
		err = transportExists(filled)
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wire != nil && sameButAddrs(filled, c.options) {
		err = c.wire.retarget(filled, servers)
	} else if c.wire != nil {
		go c.wire.close() // Calls in progress end with what they know.
		c.wire = nil
	}
	if err == nil {
		c.options, c.servers = filled, servers
	}
	return err
}

// sameButAddrs says whether only addresses differ. Functions cannot be compared:
// a new Log is taken for the same one.
func sameButAddrs(a, b Options) bool {
	return a.Timeout == b.Timeout && a.Progress == b.Progress &&
		a.Secure == b.Secure && a.Insecure == b.Insecure &&
		a.CAFile == b.CAFile && a.CertFile == b.CertFile &&
		a.KeyFile == b.KeyFile && a.ServerName == b.ServerName &&
		a.TLSConfig == b.TLSConfig && a.Token == b.Token &&
		a.Incarnation == b.Incarnation && a.Transport == b.Transport
}

// Options returns the options, with the defaults filled in.
func (c *Client) Options() Options {
	c.mu.Lock()
	defer c.mu.Unlock()
	options, _, _ := c.options.filled()
	return options
}

// Close ends the watchers and the connections. What was registered with a TTL
// ends with it.
func (c *Client) Close() {
	c.mu.Lock()
	wire := c.wire
	c.wire, c.closed = nil, true
	c.mu.Unlock()
	if wire != nil {
		wire.close()
	}
	runtime.SetFinalizer(c, nil)
}

// open returns the transport, and makes it first when there is none.
func (c *Client) open() (transport, Options, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, Options{}, &failure{ErrStopped, "the client is closed"}
	}
	if c.wire != nil {
		return c.wire, c.options, nil
	}
	options, servers, err := c.options.filled()
	if err != nil {
		return nil, options, err
	}
	wire, err := newTransport(options, servers)
	if err != nil {
		return nil, options, err
	}
	c.options, c.servers, c.wire = options, servers, wire
	return wire, options, nil
}

// given is the context of a caller who may have given none.
func given(ctx context.Context) context.Context {
	if ctx == nil {
		return context.Background()
	}
	return ctx
}

// Register registers a service with all its nodes, for ttl; 0 is for ever. What
// is there already is renewed when it is the same and replaced otherwise, so
// repeating the call keeps it alive. The registry takes 1 s to 24 h; what is
// outside of that is moved to its edge.
//
// The service is anything whose JSON is that of go-micro's registry.Service.
func (c *Client) Register(ctx context.Context, service any, ttl time.Duration) error {
	body, err := json.Marshal(service)
	if err != nil {
		return &failure{ErrInvalid, "register: " + err.Error()}
	}
	wire, _, err := c.open()
	if err != nil {
		return err
	}
	if ttl < 0 {
		return &failure{ErrInvalid, fmt.Sprintf("register: the TTL %v is negative", ttl)}
	}
	if ttl > 0 {
		ttl = max(minTTL, min(ttl, maxTTL))
	}
	err = wire.register(given(ctx), body, ttl)
	runtime.KeepAlive(c)
	return err
}

// Deregister removes the nodes of a service. Nodes that are not registered are
// no error.
func (c *Client) Deregister(ctx context.Context, service any) error {
	body, err := json.Marshal(service)
	if err != nil {
		return &failure{ErrInvalid, "deregister: " + err.Error()}
	}
	wire, _, err := c.open()
	if err != nil {
		return err
	}
	err = wire.deregister(given(ctx), body)
	runtime.KeepAlive(c)
	return err
}

// Get decodes all versions of a service that have a healthy node into *services,
// which is a pointer to a slice of go-micro's *registry.Service, or of what has
// the same JSON. When there is none, the error is ErrNotFound itself.
func (c *Client) Get(ctx context.Context, name string, services any) error {
	if err := checkName(name); err != nil || name == "" {
		return ErrNotFound // No service can have this name.
	}
	wire, options, err := c.open()
	if err != nil {
		return err
	}
	body, err := wire.get(given(ctx), name, options.Reads, options.Watched)
	runtime.KeepAlive(c)
	if err != nil {
		return err
	}
	return decode("get "+name, body, services)
}

// List decodes all services with their healthy nodes into *services, as Get: an
// element a name and version, in that order. None is no error.
func (c *Client) List(ctx context.Context, services any) error {
	wire, options, err := c.open()
	if err != nil {
		return err
	}
	body, err := wire.list(given(ctx), options.Reads)
	runtime.KeepAlive(c)
	if err != nil {
		return err
	}
	return decode("list", body, services)
}

func decode(what string, body []byte, into any) error {
	if err := json.Unmarshal(body, into); err != nil {
		return &failure{ErrUnavailable, what + ": the answer is no registry's: " +
			err.Error()}
	}
	return nil
}

func checkName(name string) error {
	if len(name) > maxName || !utf8.ValidString(name) || strings.ContainsRune(name, 0) {
		return &failure{ErrInvalid, fmt.Sprintf(
			"%.200q is no name of a service: at most %d bytes of UTF-8", name, maxName)}
	}
	return nil
}

// An Event is one change of one node.
type Event struct {
	// Action is "create", "update" or "delete".
	Action string `json:"action"`
	// Index is the revision of the registry that changed it.
	Index uint64 `json:"index"`
	// Service is the JSON of the service with this one node; after a delete as
	// it was before. It is shared and must not be changed.
	Service json.RawMessage `json:"service"`

	object *object // Of the NetHTTP transport.
}

// Decode decodes the service into what has the JSON of registry.Service.
func (e Event) Decode(service any) error {
	return decode("event", e.Service, service)
}

// A Watcher tells what there is, as "create" events, and then each change.
type Watcher struct {
	client *Client // Not to be collected while somebody watches.
	source source
	unbind func() bool // Lets go of the context.
}

// Watch watches one service, or all when name is "". It does not wait: it goes
// on trying to reach a server until it is stopped, by Stop or the context.
func (c *Client) Watch(ctx context.Context, name string) (*Watcher, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	wire, _, err := c.open()
	if err != nil {
		return nil, err
	}
	source, err := wire.watch(name)
	if err != nil {
		return nil, err
	}
	w := &Watcher{c, source, context.AfterFunc(given(ctx), source.stop)}
	runtime.SetFinalizer(w, (*Watcher).Stop)
	return w, nil
}

// Next waits for the next event. When the watcher was stopped, the error is
// ErrStopped itself.
func (w *Watcher) Next() (Event, error) {
	event, err := w.source.next()
	runtime.KeepAlive(w)
	return event, err
}

// Stop ends the watcher: Next returns ErrStopped now and ever after, also where
// it waits. Any goroutine may call it, as often as it likes.
func (w *Watcher) Stop() {
	w.unbind()
	w.source.stop()
	runtime.SetFinalizer(w, nil)
}
