// SPDX-License-Identifier: Apache-2.0

package microreg

import (
	"sort"
	"sync"
	"time"
)

// How long a server that failed is asked last: longer each time.
const (
	minAvoid = time.Second
	maxAvoid = 30 * time.Second
)

type peer struct {
	endpoint
	failures int
	avoided  time.Time // Until then it is asked after the others.
}

// Peers are the servers in the order of the configuration. Who failed is asked
// last for a while; then it has its place again.
type peers struct {
	mu   sync.Mutex
	list []*peer
}

func (p *peers) set(servers []endpoint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = make([]*peer, len(servers))
	for i, server := range servers {
		p.list[i] = &peer{endpoint: server}
	}
}

// order returns all servers, those to be avoided last.
func (p *peers) order() []*peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	out := append([]*peer(nil), p.list...)
	rank := func(i int) time.Time {
		if out[i].avoided.After(now) {
			return out[i].avoided
		}
		return time.Time{}
	}
	sort.SliceStable(out, func(i, j int) bool { return rank(i).Before(rank(j)) })
	return out
}

func (p *peers) succeeded(one *peer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	one.failures, one.avoided = 0, time.Time{}
}

func (p *peers) failed(one *peer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	avoid := min(minAvoid<<min(one.failures, 10), maxAvoid)
	one.failures++
	one.avoided = time.Now().Add(avoid)
}
