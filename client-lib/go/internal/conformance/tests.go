// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"strings"
	"sync"
	"time"

	microreg "github.com/microreg/microreg/client-lib/go"
)

// ---- register, get, list ----------------------------------------------------

// Two services of several versions and nodes grow version by version and
// vanish together (the memory registry's main test).
func versions(s *suite) {
	r := s.open()
	foo, bar := name(), name()
	all := []*Service{service(foo, "1.0.0", 2), service(foo, "1.0.1", 1),
		service(foo, "1.0.3", 1), service(bar, "default", 1), service(bar, "latest", 2)}
	found := map[string]int{}
	for _, one := range all {
		s.register(r, one, 0)
		found[one.Name]++
		if got := s.get(r, one.Name); len(got) != found[one.Name] {
			s.Fatalf("%d versions of %s, want %d", len(got), one.Name, found[one.Name])
		}
	}
	for _, got := range [][]*Service{s.get(r, foo), s.get(r, bar)} {
		for _, one := range got {
			for _, want := range all {
				if want.Name == one.Name && want.Version == one.Version {
					s.equal(one, want)
				}
			}
		}
	}
	listed, err := r.ListServices()
	if err != nil {
		s.Fatal(err)
	}
	count := 0
	for _, one := range listed {
		if one.Name == foo || one.Name == bar {
			count++
		}
	}
	if count != len(all) {
		s.Fatalf("%d names and versions listed, want %d", count, len(all))
	}
	for _, one := range all {
		s.deregister(r, one)
	}
	s.gone(r, foo)
	s.gone(r, bar)
}

// A registration is seen by the next call, and its end within 5 ms (mdns).
func registerAndGone(s *suite) {
	r := s.open()
	var all []*Service
	for i := 0; i < 4; i++ {
		all = append(all, service(name(), "1.0.1", 1))
	}
	for _, one := range all {
		s.register(r, one, 0)
		s.equal(s.get(r, one.Name), []*Service{one})
	}
	listed, err := r.ListServices()
	if err != nil {
		s.Fatal(err)
	}
	for _, one := range all {
		seen := false
		for _, have := range listed {
			seen = seen || have.Name == one.Name
		}
		if !seen {
			s.Fatalf("%s is not listed", one.Name)
		}
		s.deregister(r, one)
		time.Sleep(5 * time.Millisecond)
		s.gone(r, one.Name)
	}
}

// whole is a service with something in each member.
func whole() *Service {
	one := service(name(), "2.1.0-rc1+build.7", 1)
	one.Metadata = map[string]string{"type": "rpc", "quote": `"'\`, "empty": "",
		"unicode": "grüße, 世界", "long": strings.Repeat("x", 4000)}
	one.Nodes[0].Metadata = map[string]string{"protocol": "grpc", "broker": "http",
		"registry": "microreg", "transport": "grpc", "a b/c": "=\n\t"}
	one.Nodes[0].Address = "[2001:db8::7]:10004"
	one.Endpoints = []*Endpoint{{
		Name: "Say.Hello",
		Request: &Value{Name: "Request", Type: "Request", Values: []*Value{
			{Name: "name", Type: "string"},
			{Name: "deep", Type: "Deep", Values: []*Value{{Name: "n", Type: "int64"}}}}},
		Response: &Value{Name: "Response", Type: "Response"},
		Metadata: map[string]string{"stream": "true"},
	}, {Name: "Say.Nothing", Metadata: map[string]string{}}}
	return one
}

// Filters of the selector look at endpoints, metadata and versions, which come
// from lookups and from events.
func everythingKept(s *suite) {
	r := s.open()
	one := whole()
	before := s.watch(r, one.Name)
	s.register(r, one, 30*time.Second)
	s.equal(s.get(r, one.Name), []*Service{one})
	listed, err := r.ListServices()
	if err != nil {
		s.Fatal(err)
	}
	var own []*Service
	for _, have := range listed {
		if have.Name == one.Name {
			own = append(own, have)
		}
	}
	s.equal(own, []*Service{one})
	before.expect("create", one)
	s.watch(r, one.Name).expect("create", one)
	s.watch(r, "").expect("create", one)
	s.deregister(r, one)
	before.expect("delete", one)
}

func allNodes(s *suite) {
	r := s.open()
	one := service(name(), "1", 5)
	s.register(r, one, 0)
	s.equal(s.get(r, one.Name), []*Service{one})
	s.deregister(r, &Service{Name: one.Name, Nodes: one.Nodes[1:3]})
	if got := s.get(r, one.Name); !sameIDs(got, one.Nodes[0].ID, one.Nodes[3].ID, one.Nodes[4].ID) {
		s.Fatalf("nodes %v", sortedIDs(got))
	}
}

func replaces(s *suite) {
	r := s.open()
	one := service(name(), "1", 1)
	for i := 0; i < 3; i++ {
		s.register(r, one, 30*time.Second)
	}
	s.equal(s.get(r, one.Name), []*Service{one})
	one.Nodes[0].Address = "10.9.9.9:1"
	s.register(r, one, 30*time.Second)
	s.equal(s.get(r, one.Name), []*Service{one})
	one.Version = "2"
	s.register(r, one, 30*time.Second)
	s.equal(s.get(r, one.Name), []*Service{one})
}

func unknown(s *suite) {
	r := s.open()
	s.gone(r, name())
	s.gone(r, "")
	s.gone(r, strings.Repeat("n", 1000))
	there := service(name(), "1", 1)
	s.register(r, there, 0)
	s.gone(r, there.Name+"\x00")
	s.gone(r, there.Name+" ")
	s.gone(r, strings.ToUpper(there.Name))
	s.deregister(r, service(name(), "1", 2))
}

// A refusal names what is wrong, and changes nothing.
func refused(s *suite) {
	r := s.open()
	for member, one := range map[string]*Service{
		"node":    {Name: name(), Version: "1"},
		"name":    service("", "1", 1),
		"address": service(name(), "1", 2),
		"version": service(name(), strings.Repeat("v", 200), 1),
	} {
		if member == "address" {
			one.Nodes[1].Address = "10.0.0.1"
		}
		began := time.Now()
		err := r.Register(one, 0)
		if err == nil || !strings.Contains(err.Error(), member) {
			s.Fatalf("%s: %v", member, err)
		}
		if passed := time.Since(began); passed > 2*time.Second {
			s.Fatalf("%s: refused after %v", member, passed)
		}
		s.gone(r, one.Name)
	}
}

func twoHandles(s *suite) {
	a, b := s.open(), s.New(s.cluster.Addrs(1), microreg.Via(s.via))
	one := service(name(), "1", 1)
	s.register(a, one, 0)
	s.equal(s.get(b, one.Name), []*Service{one})
	s.deregister(b, one)
	s.gone(a, one.Name)
}

// Two processes of one version are one service with two nodes.
func twoProcesses(s *suite) {
	a, b := s.open(), s.New(s.cluster.Addrs(1), microreg.Via(s.via))
	both := service(name(), "1", 2)
	s.register(b, &Service{Name: both.Name, Version: "1", Nodes: both.Nodes[1:]}, 0)
	s.register(a, &Service{Name: both.Name, Version: "1", Nodes: both.Nodes[:1]}, 0)
	s.equal(s.get(a, both.Name), []*Service{both})
	s.equal(s.get(b, both.Name), []*Service{both})
	s.deregister(b, &Service{Name: both.Name, Version: "1", Nodes: both.Nodes[1:]})
	if got := s.get(a, both.Name); !sameIDs(got, both.Nodes[0].ID) {
		s.Fatalf("nodes %v", sortedIDs(got))
	}
}

func copies(s *suite) {
	r := s.open()
	one := service(name(), "1", 2)
	s.register(r, one, 0)
	got := s.get(r, one.Name)
	got[0].Nodes[0].Address = "changed"
	got[0].Nodes[0].Metadata["foo"] = "changed"
	got[0].Nodes = got[0].Nodes[:1]
	s.equal(s.get(r, one.Name), []*Service{one})
}

// ---- TTL --------------------------------------------------------------------

// goneAfterTTL accepts a version without nodes, as the memory registry has it.
func goneAfterTTL(s *suite, r Registry, name string) bool {
	services, err := r.GetService(name)
	return len(sortedIDs(services)) == 0 && (err == nil || err == s.ErrNotFound) //nolint:errorlint // The variable itself.
}

func ttlEnds(s *suite) {
	r := s.open()
	one, short := service(name(), "1", 2), service(name(), "1", 1)
	began := time.Now()
	s.register(r, one, time.Second)
	s.register(r, short, time.Millisecond) // Counts as a second.
	eventually(s, "the end of the TTL", func() bool { return goneAfterTTL(s, r, one.Name) })
	if lived := time.Since(began); lived < time.Second || lived > 3*time.Second {
		s.Fatalf("a TTL of 1 s lasted %v", lived)
	}
	eventually(s, "the end of the TTL", func() bool { return goneAfterTTL(s, r, short.Name) })
	// Registering the same again is more than a renewal now.
	s.register(r, one, time.Second)
	s.equal(s.get(r, one.Name), []*Service{one})
}

func ttlRenewed(s *suite) {
	r := s.open()
	one := service(name(), "1", 2)
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		began := time.Now()
		s.register(r, one, time.Second)
		got, err := r.GetService(one.Name)
		// On a machine that stood still for a TTL it is gone by right.
		if passed := time.Since(began); passed < time.Second {
			if err != nil {
				s.Fatalf("%v after it was renewed, and found: %v", passed, err)
			}
			s.equal(got, []*Service{one})
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func ttlConcurrent(s *suite) {
	r := s.open()
	one := service(name(), "1", 3)
	s.register(r, one, time.Second)
	time.Sleep(2200 * time.Millisecond)
	var group sync.WaitGroup
	wrong := make(chan string, 1000)
	for i := 0; i < cap(wrong); i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			if services, err := r.GetService(one.Name); len(services) > 0 {
				wrong <- fmt.Sprintf("still saw %v", sortedIDs(services))
			} else if err != s.ErrNotFound { //nolint:errorlint // The variable itself.
				wrong <- err.Error()
			}
		}()
	}
	group.Wait()
	if len(wrong) > 0 {
		s.Fatalf("%d of %d readers, the first one: %s", len(wrong), cap(wrong), <-wrong)
	}
}

// A version ends with its TTL; another one of the same service stays.
func ttlOfOneVersion(s *suite) {
	r := s.open()
	mortal, other := service(name(), "1", 2), (*Service)(nil)
	other = service(mortal.Name, "2", 1)
	w := s.watch(r, mortal.Name)
	s.register(r, other, 0)
	w.expect("create", other)
	s.register(r, mortal, time.Second)
	w.next()
	w.next()
	told := &Service{}
	for range mortal.Nodes {
		event := w.next()
		if event.Action != "delete" || event.Service.Version != "1" {
			s.Fatalf("%s of version %s", event.Action, event.Service.Version)
		}
		told.Nodes = append(told.Nodes, event.Service.Nodes...)
	}
	s.equal(sortedIDs([]*Service{told}), sortedIDs([]*Service{mortal}))
	s.equal(s.get(r, mortal.Name), []*Service{other})
}

// ---- watchers ---------------------------------------------------------------

// Each registration is a "create" with its one node, each deregistration a
// "delete" with name, version and the node as it was (mdns).
func watchAll(s *suite) {
	r := s.open()
	w := s.watch(r, "")
	for i := 0; i < 4; i++ {
		one := service(name(), "1.0.1", 1)
		s.register(r, one, 0)
		w.expect("create", one)
		s.deregister(r, one)
		w.expect("delete", one)
	}
}

func watchSnapshot(s *suite) {
	r := s.open()
	one := service(name(), "1", 3)
	s.register(r, one, 0)
	for _, w := range []*reader{s.watch(r, one.Name), s.watch(r, one.Name), s.watch(r, "")} {
		got := &Service{Name: one.Name, Version: one.Version}
		for range one.Nodes {
			event := w.next(one.Name)
			if event.Action != "create" || len(event.Service.Nodes) != 1 {
				s.Fatalf("%s with %d nodes", event.Action, len(event.Service.Nodes))
			}
			got.Nodes = append(got.Nodes, event.Service.Nodes...)
		}
		s.equal(sortedIDs([]*Service{got}), sortedIDs([]*Service{one}))
	}
	// And a second later nothing is told again.
	w := s.watch(r, one.Name)
	for range one.Nodes {
		w.next()
	}
	w.quiet(time.Second)
}

func watchOne(s *suite) {
	r := s.open()
	one, other := service(name(), "1", 1), service(name(), "1", 1)
	w := s.watch(r, one.Name)
	s.register(r, other, 0)
	s.register(r, one, 30*time.Second)
	first := w.next()
	if first.Action != "create" {
		s.Fatalf("the first event is %s", first.Action)
	}
	s.equal(first.Service, one)
	s.register(r, one, 30*time.Second) // A renewal is no event.
	one.Nodes[0].Metadata["foo"] = "baz"
	s.register(r, one, 30*time.Second)
	second := w.next()
	if second.Action != "update" {
		s.Fatalf("the second event is %s", second.Action)
	}
	s.equal(second.Service, one)
	s.deregister(r, other)
	s.deregister(r, one)
	third := w.next()
	if third.Action != "delete" {
		s.Fatalf("the third event is %s", third.Action)
	}
	s.equal(third.Service, one)
	w.quiet(100 * time.Millisecond)
}

// go-micro's cache keeps nodes by version, so the old version must be told gone.
func watchVersion(s *suite) {
	r := s.open()
	one := service(name(), "1", 1)
	s.register(r, one, 0)
	w := s.watch(r, one.Name)
	w.expect("create", one)
	before := *one
	one.Version = "2"
	s.register(r, one, 0)
	w.expect("delete", &before)
	w.expect("create", one)
}

func watchExpiry(s *suite) {
	r := s.open()
	one := service(name(), "1", 1)
	w := s.watch(r, one.Name)
	began := time.Now()
	s.register(r, one, time.Second)
	w.expect("create", one)
	w.expect("delete", one)
	if passed := time.Since(began); passed < time.Second || passed > 2500*time.Millisecond {
		s.Fatalf("the end of a TTL of 1 s was told after %v", passed)
	}
}

func watchStop(s *suite) {
	r := s.open()
	w, err := r.Watch(name())
	if err != nil {
		s.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		_, err := w.Next()
		ended <- err
	}()
	time.Sleep(20 * time.Millisecond) // Let it wait, most of the time.
	go w.Stop()
	select {
	case err := <-ended:
		if err != s.ErrWatcherStopped { //nolint:errorlint // The variable itself.
			s.Fatalf("%v", err)
		}
	case <-time.After(5 * time.Second):
		s.Fatal("Stop does not wake Next")
	}
	w.Stop()
	if _, err := w.Next(); err != s.ErrWatcherStopped { //nolint:errorlint // The variable itself.
		s.Fatalf("%v", err)
	}
	// Another watcher of the same client lives on.
	one := service(name(), "1", 1)
	next := s.watch(r, one.Name)
	s.register(r, one, 0)
	next.expect("create", one)
}

func watchShared(s *suite) {
	r := s.open()
	one := service(name(), "1", 1)
	a, b := s.watch(r, one.Name), s.watch(r, one.Name)
	s.register(r, one, 0)
	event := a.next()
	event.Service.Nodes[0].Address = "changed"
	event.Service.Nodes[0].Metadata["foo"] = "changed"
	b.expect("create", one)
	s.deregister(r, one)
	a.expect("delete", one)
	b.expect("delete", one)
}

// ---- how a program gets there -----------------------------------------------

// go-micro calls the constructor without options, hands the registry around,
// and gives it its addresses later.
func initRetargets(s *suite) {
	r := s.New([]string{"127.0.0.1:1"}, microreg.Via(s.via))
	one := service(name(), "1", 1)
	w := s.watch(r, one.Name)
	if err := r.Register(one, 0); err == nil {
		s.Fatal("registered at a port where nobody is")
	}
	// The default port is added: the cluster's servers have it.
	bare := strings.TrimSuffix(s.cluster.Addr(0), ":8500")
	if err := r.Init([]string{bare, s.cluster.Addr(1)}); err != nil {
		s.Fatal(err)
	}
	if got := r.Addrs(); len(got) != 2 || got[0] != bare {
		s.Fatalf("Options().Addrs is %v", got)
	}
	s.register(r, one, 0)
	s.equal(s.get(r, one.Name), []*Service{one})
	w.expect("create", one)
	if err := r.Init([]string{"host:port:port"}); err == nil {
		s.Fatal("an address that is none was taken")
	}
	s.equal(s.get(r, one.Name), []*Service{one})
}

func byName(s *suite) {
	r := s.ByName()
	if r == nil || r.String() != "microreg" {
		s.Fatalf("no registry under the name microreg")
	}
	if err := r.Init(s.cluster.Addrs(0)); err != nil {
		s.Fatal(err)
	}
	s.gone(r, name())
}
