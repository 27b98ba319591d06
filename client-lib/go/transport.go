// SPDX-License-Identifier: Apache-2.0

package microreg

import (
	"context"
	"fmt"
	"time"
)

// A transport speaks with the registry. Services are JSON. Its calls may be made
// by any goroutine; after close they fail, and its watches are stopped.
type transport interface {
	// retarget makes it use other servers from now on, for streams too.
	retarget(options Options, servers []endpoint) error
	register(ctx context.Context, service []byte, ttl time.Duration) error
	deregister(ctx context.Context, service []byte) error
	// get returns an array, or ErrNotFound. fromWatch allows an answer from
	// memory when a watch of this client covers the service.
	get(ctx context.Context, name string, reads Reads, fromWatch bool) ([]byte, error)
	list(ctx context.Context, reads Reads) ([]byte, error)
	// watch watches one service, or all when name is "".
	watch(name string) (source, error)
	close()
}

// A source is one watch of a transport.
type source interface {
	// next waits for an event. ErrStopped: there will be none any more.
	next() (Event, error)
	// stop makes next return ErrStopped now and ever after, and lets go of all
	// that the watch holds. Any goroutine, as often as one likes.
	stop()
}

// maxCalls is how many calls of a client may ask the registry at a time; the
// others wait in Go. In the C library each holds a thread of the operating
// system, over net/http a connection, and a registry that is slow because of too
// many of them must not get more.
const maxCalls = 64

// errBusy is the error when no place became free in time.
var errBusy = &failure{ErrUnavailable, fmt.Sprintf(
	"no answer in time: %d other calls are waiting for the registry", maxCalls)}

// Places hold one element for each call that asks the registry.
type places chan struct{}

func newPlaces() places { return make(places, maxCalls) }

func (p places) leave() { <-p }
