// SPDX-License-Identifier: Apache-2.0

package microreg_test

import (
	"fmt"
	"math/rand"
	"reflect"
	"sort"
	"sync"
	"testing"
	"time"

	microreg "github.com/microreg/microreg/client-lib/go"
	"github.com/microreg/microreg/client-lib/go/internal/cluster"
	"github.com/microreg/microreg/client-lib/go/internal/conformance"
)

// A list is what one watcher makes of its events.
type list struct {
	mu    sync.Mutex
	known map[string]string // Address by node ID.
	wrong []string
}

func (l *list) fill(w *microreg.Watcher) {
	for {
		event, err := w.Next()
		if err != nil {
			return
		}
		var s conformance.Service
		_ = event.Decode(&s)
		l.mu.Lock()
		node := s.Nodes[0]
		before, has := l.known[node.ID]
		if has != (event.Action != "create") ||
			(event.Action == "update" && before == node.Address) {
			l.wrong = append(l.wrong, fmt.Sprintf("%s %s %s at %d, was %q",
				event.Action, node.ID, node.Address, event.Index, before))
		}
		if event.Action == "delete" {
			delete(l.known, node.ID)
		} else {
			l.known[node.ID] = node.Address
		}
		l.mu.Unlock()
	}
}

func (l *list) equals(want map[string]string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return reflect.DeepEqual(l.known, want)
}

// Watchers come and go, of one service and of all, while services change and
// servers die: whoever is left has what the registry has, and was told nothing
// twice.
func TestWatchersComeAndGo(t *testing.T) {
	const services, changes = 12, 400
	each(t, func(t *testing.T, via microreg.Transport) {
		c := cluster.Start(t)
		r := client(t, microreg.Options{Addrs: c.Addrs(0)}, via)
		writer := client(t, microreg.Options{Addrs: c.Addrs(1)}, microreg.NetHTTP)
		seed := time.Now().UnixNano()
		t.Logf("seed %d", seed)
		rng := rand.New(rand.NewSource(seed))
		lists, watchers := map[*list]string{}, map[*list]*microreg.Watcher{}
		want := map[string]map[string]string{"": {}}
		open := func(name string) {
			w, err := r.Watch(ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			l := &list{known: map[string]string{}}
			lists[l], watchers[l] = name, w
			go l.fill(w)
		}
		check := func(l *list) {
			l.mu.Lock()
			defer l.mu.Unlock()
			if len(l.wrong) > 0 {
				t.Fatalf("a watcher of %q: %q", lists[l], l.wrong)
			}
		}
		change := func(i int) {
			name := fmt.Sprintf("churn-%d", rng.Intn(services))
			id := fmt.Sprintf("%s-%d", name, rng.Intn(3))
			address := fmt.Sprintf("10.0.0.1:%d", i+1)
			s := &conformance.Service{Name: name, Version: "1",
				Nodes: []*conformance.Node{{ID: id, Address: address}}}
			if want[name] == nil {
				want[name] = map[string]string{}
			}
			isDelete := rng.Intn(3) == 0
			cluster.Eventually(t, "a change", 15*time.Second, func() bool {
				if isDelete {
					return writer.Deregister(ctx, s) == nil
				}
				return writer.Register(ctx, s, 0) == nil
			})
			for _, w := range []map[string]string{want[name], want[""]} {
				if delete(w, id); !isDelete {
					w[id] = address
				}
			}
		}
		for i := 0; i < changes; i++ {
			change(i)
			switch rng.Intn(8) {
			case 0:
				open(fmt.Sprintf("churn-%d", rng.Intn(services)))
			case 1:
				if rng.Intn(4) == 0 {
					open("")
				}
			case 2, 3:
				if len(watchers) < 8 {
					break
				}
				for l, w := range watchers {
					w.Stop()
					check(l)
					delete(lists, l)
					delete(watchers, l)
					break
				}
			}
			if i == changes/3 || i == 2*changes/3 {
				killed := c.Leader()
				c.Kill(killed)
				change(i)
				c.Run(killed)
			}
		}
		open("")
		for l, name := range lists {
			if want[name] == nil {
				want[name] = map[string]string{}
			}
			what := fmt.Sprintf("a watcher of %q has the registry's list", name)
			cluster.Eventually(t, what, 15*time.Second, func() bool { return l.equals(want[name]) })
			check(l)
		}
		t.Logf("%d watchers at the end, of %v", len(lists), namesOf(lists))
	})
}

func namesOf(lists map[*list]string) []string {
	out := []string{}
	for _, name := range lists {
		out = append(out, name)
	}
	sort.Strings(out)
	return out
}
