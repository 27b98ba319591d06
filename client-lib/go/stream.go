// SPDX-License-Identifier: Apache-2.0

package microreg

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sort"
	"strconv"
	"time"
)

const (
	// maxNames is what one stream can name; with more, it asks for all.
	maxNames = 256
	// maxLine is more than the registry lets one registration be.
	maxLine = 8 << 20
	// maxPending bounds what a server may say belongs to one index.
	maxPending = 256 << 20
)

// A line is one line of a stream.
type line struct {
	Index   uint64          `json:"index"`
	Action  string          `json:"action"`
	More    bool            `json:"more"`
	Service json.RawMessage `json:"service"`
}

// A plan is what a stream asks for.
type plan struct {
	method, target string
	body           []byte
}

// plan prepares the topics for a stream, and says how to ask for it.
func (h *hub) plan() plan {
	h.mu.Lock()
	defer h.mu.Unlock()
	type wanted struct {
		Name  string `json:"name"`
		Index uint64 `json:"index"`
	}
	var names []wanted
	oldest := ^uint64(0)
	for _, t := range h.topics {
		names = append(names, wanted{t.name, t.index})
		oldest = min(oldest, t.index)
	}
	sort.Slice(names, func(i, j int) bool { return names[i].Name < names[j].Name })
	target := "/registry/watch?progress=" + h.wire.current().Progress.String() +
		mode(h.wire.current().Reads)
	wantsAll := h.topics[""] != nil || len(names) > maxNames
	for _, t := range h.topics {
		t.isOpen, t.fresh = true, nil
		if t.index == 0 || (wantsAll && oldest == 0) {
			t.fresh = view{}
		}
	}
	if wantsAll {
		if oldest > 0 {
			target += "&index=" + strconv.FormatUint(oldest, 10)
		}
		return plan{http.MethodGet, target, nil}
	}
	body, _ := json.Marshal(map[string]any{"services": names}) // Cannot fail.
	return plan{http.MethodPost, target, body}
}

// follow reads one stream to its end. It says whether it was a stream at all.
func (h *hub) follow(ctx context.Context) (bool, error) {
	to := h.wire.peers.order()[0]
	parent := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// First for the answer, then for each silence.
	watchdog := time.AfterFunc(h.wire.firstPatience(), cancel)
	defer watchdog.Stop()
	defer h.lost()
	heard, err := h.readFrom(ctx, to, watchdog)
	if parent.Err() != nil {
		return heard, err // We ended it: nothing to hold against the server.
	}
	if ctx.Err() != nil {
		err = errors.New("no answer in time")
	}
	if heard {
		h.wire.peers.succeeded(to)
	}
	h.wire.peers.failed(to)
	return heard, fmt.Errorf("%s: %w", to.hostPort, err)
}

// firstPatience is how long a stream may take to begin.
func (h *httpWire) firstPatience() time.Duration {
	if h.count() == 1 {
		return h.current().Timeout
	}
	return 2 * patience
}

// readFrom opens a stream at one server and applies its lines.
func (h *hub) readFrom(ctx context.Context, to *peer, watchdog *time.Timer) (bool, error) {
	p := h.plan()
	req, err := h.wire.request(ctx, to, p.method, p.target, p.body)
	if err != nil {
		return false, err
	}
	response, err := h.wire.client.Do(req)
	if err != nil {
		return false, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text := make([]byte, 500)
		n, _ := response.Body.Read(text)
		return false, errors.New(sentence(answer{response.StatusCode, 0, text[:n]}))
	}
	silence := 2 * h.wire.current().Progress
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(make([]byte, 16<<10), maxLine)
	pending, size := []line(nil), 0
	for lines.Scan() {
		watchdog.Reset(silence)
		var l line
		if err := json.Unmarshal(bytes.Clone(lines.Bytes()), &l); err != nil {
			return true, fmt.Errorf("a line that is no registry's: %w", err)
		}
		pending, size = append(pending, l), size+len(l.Service)
		if size > maxPending {
			return true, errors.New("too much for one index")
		}
		if !l.More {
			h.apply(pending)
			pending, size = nil, 0
		}
	}
	if err := lines.Err(); err != nil {
		return true, err
	}
	return true, errors.New("the stream ended")
}

// lost notes that there is no stream.
func (h *hub) lost() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.isLive = false
	for _, t := range h.topics {
		t.isOpen, t.fresh = false, nil
	}
}

// ---- lines ------------------------------------------------------------------

// apply applies the lines of one index, the last of which is without more.
func (h *hub) apply(lines []line) {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := lines[len(lines)-1]
	for i := range lines {
		switch l := &lines[i]; l.Action {
		case "create", "update", "delete":
			h.applyObject(l)
		case "reset":
			h.reset()
		}
	}
	switch last.Action {
	case "synced":
		h.synced(last.Index)
	case "progress":
		h.complete(last.Index)
	case "create", "update", "delete":
		if h.isLive {
			h.complete(last.Index)
		} else if o := parseObject(last.Service); o != nil {
			h.completeOne(o.name, last.Index)
		}
	}
}

// applyObject applies an event to the topics that it concerns. What a topic has
// seen already, because another one in the stream had not, is left out.
func (h *hub) applyObject(l *line) {
	o := parseObject(l.Service)
	if o == nil {
		return
	}
	for _, t := range []*topic{h.topics[o.name], h.topics[""]} {
		switch {
		case t == nil || !t.isOpen:
		case t.fresh != nil && l.Action == "delete":
			t.fresh.remove(o, l.Index)
		case t.fresh != nil:
			t.fresh.put(o, l.Index)
		case l.Index <= t.index:
		case l.Action == "delete":
			t.tell(t.known.remove(o, l.Index))
		default:
			t.tell(t.known.put(o, l.Index))
		}
	}
}

// reset begins the stream's snapshot.
func (h *hub) reset() {
	h.isLive = false
	for _, t := range h.topics {
		if t.isOpen {
			t.index, t.fresh = 0, view{}
		}
	}
}

// synced ends the snapshots: all up to index has been told.
func (h *hub) synced(index uint64) {
	for _, t := range h.topics {
		if t.isOpen && t.fresh != nil {
			t.tell(t.known.become(t.fresh, index))
			t.fresh = nil
		}
	}
	h.isLive = true
	h.complete(index)
}

// complete notes that everything up to index has been told.
func (h *hub) complete(index uint64) {
	for _, t := range h.topics {
		if t.isOpen && t.fresh == nil {
			t.index, t.isSynced = index, true
		}
	}
	h.index = index
}

// completeOne is complete for one service, before the stream is live.
func (h *hub) completeOne(name string, index uint64) {
	t := h.topics[name]
	if t != nil && t.isOpen && t.fresh == nil && h.topics[""] == nil {
		t.index = max(t.index, index)
	}
}
