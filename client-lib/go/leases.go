// SPDX-License-Identifier: Apache-2.0

package microreg

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

// A registration is what a client registers, as far as it is looked at here.
type registration struct {
	name string
	ids  []string
	hash [sha256.Size]byte // Over all of it, and the TTL.
}

// parseRegistration looks at a service's JSON. A registration without nodes is
// refused here, because it would be kept nowhere.
func parseRegistration(service []byte, ttl time.Duration) (registration, error) {
	var s struct {
		Name  string `json:"name"`
		Nodes []*struct {
			ID string `json:"id"`
		} `json:"nodes"`
	}
	if err := json.Unmarshal(service, &s); err != nil {
		return registration{}, &failure{ErrInvalid, "service: " + err.Error()}
	}
	if len(s.Nodes) == 0 {
		return registration{}, &failure{ErrInvalid, fmt.Sprintf(
			"service %q: require at least one node", s.Name)}
	}
	r := registration{name: s.Name}
	for i, node := range s.Nodes {
		if node == nil {
			return r, &failure{ErrInvalid, fmt.Sprintf(
				"service %q: nodes[%d] is null", s.Name, i)}
		}
		r.ids = append(r.ids, node.ID)
	}
	hash := sha256.New()
	hash.Write(service)
	fmt.Fprintf(hash, "%d", ttl)
	hash.Sum(r.hash[:0])
	return r, nil
}

// A renewal names a node that is to live on.
type renewal struct {
	Name        string `json:"name"`
	ID          string `json:"id"`
	Digest      string `json:"digest"`
	Incarnation uint64 `json:"incarnation,omitempty"`
}

// Leases remember what this client registered, so that registering the same
// again needs only its digests.
type leases struct {
	mu    sync.Mutex
	known map[[2]string]lease // By name and node ID.
}

type lease struct {
	hash   [sha256.Size]byte
	digest string
}

// put remembers the digests of the nodes; a node without one is forgotten.
func (l *leases) put(r registration, digests map[string]string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known == nil {
		l.known = map[[2]string]lease{}
	}
	for _, id := range r.ids {
		if digests[id] == "" {
			delete(l.known, [2]string{r.name, id})
			continue
		}
		l.known[[2]string{r.name, id}] = lease{r.hash, digests[id]}
	}
}

// digests returns the renewals for a registration; nil when it is not the one
// that was made.
func (l *leases) digests(r registration) []renewal {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []renewal
	for _, id := range r.ids {
		known, ok := l.known[[2]string{r.name, id}]
		if !ok || known.hash != r.hash {
			return nil
		}
		out = append(out, renewal{Name: r.name, ID: id, Digest: known.digest})
	}
	return out
}

func (l *leases) forget(name string, ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		delete(l.known, [2]string{name, id})
	}
}

func (l *leases) forgetAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known = nil
}
