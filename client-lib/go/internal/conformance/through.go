// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"errors"
	"time"

	microreg "github.com/microreg/microreg/client-lib/go"
)

// ---- the cache and the selector ---------------------------------------------

func cacheFollows(s *suite) {
	if s.NewCache == nil {
		s.Skip("no cache")
	}
	r := s.open()
	cache, stop := s.NewCache(r, time.Minute)
	defer stop()
	one, two := service(name(), "1", 2), (*Service)(nil)
	s.gone(cache, one.Name)
	s.register(r, one, 0)
	var got []*Service
	// v5 and later ask for an unknown service only every five seconds.
	eventually(s, "the service in the cache", func() bool {
		got, _ = cache.GetService(one.Name)
		return len(got) == 1
	})
	s.equal(got, []*Service{one})
	two = service(one.Name, "2", 1)
	s.register(r, two, 0)
	eventually(s, "the new version in the cache", func() bool {
		got, _ = cache.GetService(one.Name)
		return len(got) == 2 && len(sortedIDs(got)) == 3
	})
	s.deregister(r, &Service{Name: one.Name, Nodes: one.Nodes[:1]})
	eventually(s, "the node gone from the cache", func() bool {
		got, _ = cache.GetService(one.Name)
		return sameIDs(got, one.Nodes[1].ID, two.Nodes[0].ID)
	})
	s.deregister(r, one)
	s.deregister(r, two)
	eventually(s, "nothing in the cache", func() bool {
		_, err := cache.GetService(one.Name)
		return err == s.ErrNotFound //nolint:errorlint // The variable itself.
	})
}

func cacheKeeps(s *suite) {
	if s.NewCache == nil {
		s.Skip("no cache")
	}
	r := s.open()
	cache, stop := s.NewCache(r, time.Minute)
	defer stop()
	one := service(name(), "1", 1)
	s.register(r, one, 0)
	s.equal(s.get(cache, one.Name), []*Service{one})
	// What changed before the cache watches, it may learn a minute later.
	one.Nodes[0].Metadata["foo"] = "baz"
	s.register(r, one, 0)
	eventually(s, "the cache watches", func() bool {
		got, _ := cache.GetService(one.Name)
		return len(got) == 1 && got[0].Nodes[0].Metadata["foo"] == "baz"
	})
	if err := r.Init([]string{"127.0.0.1:1"}); err != nil {
		s.Fatal(err)
	}
	for i := 0; i < 20; i++ {
		s.equal(s.get(cache, one.Name), []*Service{one})
		time.Sleep(20 * time.Millisecond)
	}
	if err := r.Init(s.cluster.Addrs(0)); err != nil {
		s.Fatal(err)
	}
	s.deregister(r, one)
	eventually(s, "nothing in the cache", func() bool {
		_, err := cache.GetService(one.Name)
		return err == s.ErrNotFound //nolint:errorlint // The variable itself.
	})
}

// When the time of what it has is over and the registry is gone, a cache still
// has it: for all who ask at once, and soon.
func cacheStale(s *suite) {
	if s.NewCache == nil {
		s.Skip("no cache")
	}
	r := s.New(s.cluster.Addrs(0), microreg.Via(s.via), impatient)
	cache, stop := s.NewCache(r, 100*time.Millisecond)
	defer stop()
	one := service(name(), "1", 1)
	s.register(r, one, 0)
	s.equal(s.get(cache, one.Name), []*Service{one})
	if err := r.Init([]string{"127.0.0.1:1"}); err != nil {
		s.Fatal(err)
	}
	time.Sleep(150 * time.Millisecond) // Its TTL is over.
	began := time.Now()
	found := make(chan bool, 50)
	for i := 0; i < cap(found); i++ {
		go func() {
			got, err := cache.GetService(one.Name)
			found <- err == nil && sameIDs(got, one.Nodes[0].ID)
		}()
	}
	for i := 0; i < cap(found); i++ {
		if !<-found {
			s.Fatal("what was in the cache is gone with the registry")
		}
	}
	if passed := time.Since(began); passed > 3*time.Second {
		s.Fatalf("after %v", passed)
	}
	if err := r.Init(s.cluster.Addrs(0)); err != nil {
		s.Fatal(err)
	}
}

// With nothing in it, a cache says what the registry says: not that there is no
// such service.
func cacheEmpty(s *suite) {
	if s.NewCache == nil {
		s.Skip("no cache")
	}
	r := s.New([]string{"127.0.0.1:1"}, microreg.Via(s.via), impatient)
	cache, stop := s.NewCache(r, time.Minute)
	defer stop()
	failed := make(chan error, 20)
	one := name()
	for i := 0; i < cap(failed); i++ {
		go func() {
			_, err := cache.GetService(one)
			failed <- err
		}()
	}
	for i := 0; i < cap(failed); i++ {
		if err := <-failed; !errors.Is(err, microreg.ErrUnavailable) {
			s.Fatalf("%v", err)
		}
	}
}

func selectorFollows(s *suite) {
	if s.NewSelector == nil {
		s.Skip("no selector")
	}
	r := s.open()
	choose := s.NewSelector(r)
	one := service(name(), "1", 3)
	s.register(r, &Service{Name: one.Name, Version: "1", Nodes: one.Nodes[:2]}, 0)
	seen := map[string]bool{}
	chooses := func() {
		for i := 0; i < 100; i++ {
			id, err := choose(one.Name)
			if err != nil {
				s.Fatal(err)
			}
			seen[id] = true
		}
	}
	chooses()
	if len(seen) != 2 {
		s.Fatalf("%d of 2 nodes were chosen in 100 calls", len(seen))
	}
	// What changed before its cache watches, it may learn a minute later.
	s.register(r, one, 0)
	eventually(s, "the third node chosen", func() bool { chooses(); return len(seen) == 3 })
	s.deregister(r, &Service{Name: one.Name, Nodes: one.Nodes[:2]})
	eventually(s, "only the last node chosen", func() bool {
		for i := 0; i < 30; i++ {
			if id, err := choose(one.Name); err != nil || id != one.Nodes[2].ID {
				return false
			}
		}
		return true
	})
	s.deregister(r, one)
	eventually(s, "nobody chosen", func() bool {
		_, err := choose(one.Name)
		return err != nil
	})
}
