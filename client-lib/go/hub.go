// SPDX-License-Identifier: Apache-2.0

package microreg

import (
	"context"
	"math/rand"
	"sync"
	"time"
)

const (
	// maxQueue is how many events wait for a watcher that does not read. What
	// comes then is told as the difference, when it reads again.
	maxQueue = 4096
	// gather is how long a new topic waits for others, before the stream is
	// opened anew to include them.
	gather = 3 * time.Millisecond
)

// A topic is one service that is watched, or all ("").
type topic struct {
	name     string
	watchers map[*watch]struct{}
	known    view
	index    uint64 // Complete up to here; 0: ask for a snapshot.
	isSynced bool   // A snapshot has been told.
	isOpen   bool   // It is in the stream that is open.
	fresh    view   // A snapshot that is arriving, or nil.
	rendered []byte // As GET /registry, or nil.
}

// tell applies events to the watchers of the topic.
func (t *topic) tell(events []Event) {
	if len(events) == 0 {
		return
	}
	t.rendered = nil
	for w := range t.watchers {
		w.push(events)
	}
}

// A hub shares one stream among the watchers of a client.
//
//   - The first watcher starts run(), the last one that leaves ends it.
//   - run() opens a stream for all topics, each after its own index, and applies
//     its lines. What belongs to one index is applied when it is complete.
//   - A new topic ends the stream; run() opens another one with it included.
//   - A stream that breaks, or is silent for too long, is opened at the next
//     server. A snapshot is compared with what is known; watchers are told the
//     difference.
type hub struct {
	wire    *httpWire
	mu      sync.Mutex // Over all that follows, and over the watches.
	topics  map[string]*topic
	running bool
	closed  bool
	abort   context.CancelFunc // Ends the stream, or nil.
	isLive  bool               // The stream tells all up to index.
	index   uint64
	written uint64 // The revision of this client's last write.
}

func (h *hub) init(wire *httpWire) {
	h.wire = wire
	h.topics = map[string]*topic{}
}

// watch begins to watch.
func (h *hub) watch(name string) (source, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, &failure{ErrStopped, "the client is closed"}
	}
	t := h.topics[name]
	if t == nil {
		t = &topic{name: name, watchers: map[*watch]struct{}{}, known: view{}}
		if all := h.topics[""]; all != nil && h.isLive {
			// It is in the stream of all already.
			t.known, t.index = all.known.named(name), all.index
			t.isSynced, t.isOpen = true, true
		} else {
			h.stopStream()
		}
		h.topics[name] = t
	}
	w := &watch{hub: h, topic: t, told: view{}, ready: make(chan struct{}, 1),
		stopped: make(chan struct{})}
	t.watchers[w] = struct{}{}
	if t.isSynced {
		w.push(view{}.become(t.known, t.index)) // As at the snapshot.
	}
	if !h.running {
		h.running = true
		go h.run()
	}
	return w, nil
}

// stopStream ends the stream, if there is one, to open another.
func (h *hub) stopStream() {
	h.isLive = false
	if h.abort != nil {
		h.abort()
	}
}

func (h *hub) restart() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopStream()
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, t := range h.topics {
		for w := range t.watchers {
			w.leave()
		}
	}
	h.stopStream()
}

// wrote notes that this client changed the registry: answers from memory must
// have it.
func (h *hub) wrote(index uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.written = max(h.written, index)
}

// read returns a service as GET /registry would, when the stream has it.
func (h *hub) read(name string) ([]byte, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.topics[name]
	if t == nil || !t.isSynced || !h.isLive || h.index < h.written {
		return nil, false
	}
	if t.rendered == nil {
		t.rendered, _ = t.known.render()
	}
	return t.rendered, t.rendered != nil
}

// ---- the stream -------------------------------------------------------------

// run keeps a stream open while there are watchers.
func (h *hub) run() {
	for failures := 0; ; {
		ctx, ok := h.begin()
		if !ok {
			return
		}
		sleep(ctx, gather)
		heard, err := h.follow(ctx)
		if ctx.Err() != nil {
			continue // Ended by us: there are other topics or servers.
		}
		if heard {
			failures = 0
		}
		failures++
		h.log("watch: " + err.Error())
		if failures > h.wire.count() {
			wait := min(25*time.Millisecond<<min(failures, 10), time.Second)
			sleep(ctx, wait/2+time.Duration(rand.Int63n(int64(wait/2))))
		}
	}
}

func (h *hub) log(text string) {
	if log := h.wire.current().Log; log != nil {
		log(text)
	}
}

// count is the number of servers.
func (h *httpWire) count() int {
	h.peers.mu.Lock()
	defer h.peers.mu.Unlock()
	return len(h.peers.list)
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// begin prepares a stream; false: nobody watches any more, and run() ends.
func (h *hub) begin() (context.Context, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.abort != nil {
		h.abort()
		h.abort = nil
	}
	if h.closed || len(h.topics) == 0 {
		h.running, h.isLive = false, false
		return nil, false
	}
	ctx, cancel := context.WithCancel(h.wire.closing)
	h.abort = cancel
	return ctx, true
}

// ---- watches ----------------------------------------------------------------

// A watch is one watcher's place. The hub's lock is over all but the channels.
type watch struct {
	hub       *hub
	topic     *topic
	queue     []Event
	told      view // What next() has handed out.
	collapsed bool // The queue was too long: told and known differ instead.
	ready     chan struct{}
	stopped   chan struct{}
	isStopped bool
}

// push adds events.
func (w *watch) push(events []Event) {
	if len(events) == 0 {
		return
	}
	w.queue = append(w.queue, events...)
	if w.collapsed = w.collapsed || len(w.queue) > maxQueue; w.collapsed {
		w.queue = nil
	}
	w.wake()
}

func (w *watch) wake() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

// pop returns the next event.
func (w *watch) pop() (Event, bool) {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	if w.collapsed {
		w.collapsed = false
		now := view{}
		for key, o := range w.told {
			now[key] = o
		}
		w.queue = now.become(w.topic.known, w.topic.index)
	}
	if len(w.queue) == 0 {
		w.queue = nil
		return Event{}, false
	}
	event := w.queue[0]
	w.queue[0] = Event{}
	w.queue = w.queue[1:]
	if len(w.queue) > 0 {
		w.wake()
	}
	if event.Action == "delete" {
		w.told.remove(event.object, event.Index)
	} else {
		w.told.put(event.object, event.Index)
	}
	return event, true
}

func (w *watch) next() (Event, error) {
	for {
		select {
		case <-w.stopped:
			return Event{}, ErrStopped
		default:
		}
		if event, ok := w.pop(); ok {
			return event, nil
		}
		select {
		case <-w.ready:
		case <-w.stopped:
		}
	}
}

func (w *watch) stop() {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	w.leave()
}

// leave lets go of the topic; with the lock held.
func (w *watch) leave() {
	if w.isStopped {
		return
	}
	w.isStopped = true
	close(w.stopped)
	w.queue, w.told = nil, view{}
	delete(w.topic.watchers, w)
	if len(w.topic.watchers) == 0 {
		delete(w.hub.topics, w.topic.name)
	}
	if len(w.hub.topics) == 0 {
		w.hub.stopStream()
	}
}
