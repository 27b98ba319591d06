// SPDX-License-Identifier: Apache-2.0

// Command bench measures one registry backend of go-micro v5: ours, or go-micro's
// own consul and etcd plugins as they are. Each does the same: as many workers,
// the same services and TTL, and no more registrations than the slowest can make,
// which are gone at the end. It prints its figures as JSON; all are per second but
// those in milliseconds. tests/bench/registry.py runs it.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	microreg "github.com/microreg/microreg/client-lib/go"
	"github.com/microreg/microreg/client-lib/go/micro5"
	"go-micro.dev/v5/registry"
	"go-micro.dev/v5/registry/cache"
	"go-micro.dev/v5/registry/consul"
	"go-micro.dev/v5/registry/etcd"
)

const (
	workers  = 16
	services = 100
	// registrations are at most made: who is faster shall not have more of them
	// in what is measured next.
	registrations = 3000
	// instances is how many the service has that is looked up.
	instances = 10
	ttl       = 30 * time.Second
)

var (
	backend = flag.String("backend", "microreg", "microreg, microreg-go, consul or etcd")
	addrs   = flag.String("addrs", "", "host:port, separated by commas")
	length  = flag.Duration("time", 2*time.Second, "of each measurement")
)

// open makes the registry that is measured.
func open(settings ...microreg.Setting) registry.Registry {
	to := registry.Addrs(strings.Split(*addrs, ",")...)
	switch *backend {
	case "consul":
		return consul.NewConsulRegistry(to)
	case "etcd":
		return etcd.NewEtcdRegistry(to)
	case "microreg-go":
		settings = append(settings, microreg.Via(microreg.NetHTTP))
	}
	return micro5.NewRegistry(to, micro5.With(settings...))
}

// service is one as go-micro's server registers it: three endpoints.
func service(name, id string, number int) *registry.Service {
	s := &registry.Service{
		Name: name, Version: "1.0.0", Metadata: map[string]string{"type": "rpc"},
		Nodes: []*registry.Node{{
			Id:      id,
			Address: fmt.Sprintf("10.%d.%d.1:9090", number/256%256, number%256),
			Metadata: map[string]string{"broker": "http", "protocol": "mucp",
				"registry": "microreg", "server": "mucp", "transport": "http"},
		}},
	}
	for _, endpoint := range []string{"Say.Hello", "Say.Bye", "Debug.Health"} {
		s.Endpoints = append(s.Endpoints, &registry.Endpoint{
			Name: endpoint,
			Request: &registry.Value{Name: "Request", Type: "Request",
				Values: []*registry.Value{{Name: "name", Type: "string"}}},
			Response: &registry.Value{Name: "Response", Type: "Response",
				Values: []*registry.Value{{Name: "greeting", Type: "string"}}},
			Metadata: map[string]string{},
		})
	}
	return s
}

// rate runs do on the workers for the time of a measurement, or at most so often,
// and returns how often a second it was done. What fails is told and not counted.
func rate(what string, most int, do func(worker, i int) error) float64 {
	var done, failed atomic.Int64
	var group sync.WaitGroup
	began := time.Now()
	for worker := range workers {
		group.Add(1)
		go func() {
			defer group.Done()
			for i := 0; i < most/workers && time.Since(began) < *length; i++ {
				if err := do(worker, i); err != nil {
					failed.Add(1)
					fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
				} else {
					done.Add(1)
				}
			}
		}()
	}
	group.Wait()
	if failed.Load() > 0 {
		fmt.Fprintf(os.Stderr, "%s: %d of %d failed\n", what, failed.Load(),
			failed.Load()+done.Load())
	}
	return float64(done.Load()) / time.Since(began).Seconds()
}

// check ends the program.
func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// found returns a measurement of lookups that must find all instances.
func found(r registry.Registry) func(int, int) error {
	return func(int, int) error {
		got, err := r.GetService("bench-lookup")
		if err == nil && (len(got) != 1 || len(got[0].Nodes) != instances) {
			err = fmt.Errorf("not all %d instances", instances)
		}
		return err
	}
}

// settle waits until a lookup succeeds: a peer's answers may be stale.
func settle(r registry.Registry) {
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := found(r)(0, 0)
		if err == nil {
			return
		}
		if time.Now().After(end) {
			check(err)
		}
	}
}

// told is how long it takes until a watcher knows of a registration: the median
// of fifty, in milliseconds.
func told(r registry.Registry) float64 {
	name := fmt.Sprintf("bench-watch-%d", time.Now().UnixNano())
	w, err := r.Watch(registry.WatchService(name))
	check(err)
	defer w.Stop()
	events := make(chan *registry.Result, 1000)
	go func() {
		for {
			result, err := w.Next()
			if err != nil {
				return
			}
			events <- result
		}
	}()
	time.Sleep(500 * time.Millisecond)
	var times []float64
	for i := range 50 {
		s := service(name, fmt.Sprintf("%s-%d", name, i), i)
		began := time.Now()
		check(r.Register(s, registry.RegisterTTL(ttl)))
		for waiting := true; waiting; {
			select {
			case result := <-events:
				for _, node := range result.Service.Nodes {
					waiting = waiting && node.Id != s.Nodes[0].Id
				}
			case <-time.After(10 * time.Second):
				check(fmt.Errorf("a watcher was not told of %s", s.Nodes[0].Id))
			}
		}
		times = append(times, float64(time.Since(began).Microseconds())/1000)
		defer func() { check(r.Deregister(s)) }()
	}
	sort.Float64s(times)
	return times[len(times)/2]
}

// forget deregisters what was made, so that its expiry does not burden whoever is
// measured next.
func forget(r registry.Registry, made [][]*registry.Service) {
	var group sync.WaitGroup
	for _, some := range made {
		group.Add(1)
		go func() {
			defer group.Done()
			for _, one := range some {
				check(r.Deregister(one))
			}
		}()
	}
	group.Wait()
}

func main() {
	flag.Parse()
	figures := map[string]float64{}
	r := open()
	var made [workers][]*registry.Service
	figures["register"] = rate("register", registrations, func(worker, i int) error {
		number := i*workers + worker
		s := service(fmt.Sprintf("bench-%d", number%services),
			fmt.Sprintf("%s-%d", *backend, number), number)
		made[worker] = append(made[worker], s)
		return r.Register(s, registry.RegisterTTL(ttl))
	})
	figures["renew"] = rate("renew", math.MaxInt, func(worker, i int) error {
		return r.Register(made[worker][i%len(made[worker])], registry.RegisterTTL(ttl))
	})
	for i := range instances {
		check(r.Register(service("bench-lookup", fmt.Sprintf("lookup-%d", i), i)))
	}
	settle(r)
	figures["get_cold"] = rate("get_cold", math.MaxInt, found(r))
	one := time.Now()
	for range 300 {
		check(found(r)(0, 0))
	}
	figures["get_cold_ms"] = time.Since(one).Seconds() * 1000 / 300
	cached := cache.New(r)
	settle(cached)
	figures["get_cache"] = rate("get_cache", math.MaxInt, found(cached))
	cached.Stop()
	if strings.HasPrefix(*backend, "microreg") {
		watched := open(microreg.FromWatch())
		w, err := watched.Watch(registry.WatchService("bench-lookup"))
		check(err)
		for range instances {
			_, err := w.Next()
			check(err)
		}
		figures["get_watched"] = rate("get_watched", math.MaxInt, found(watched))
		w.Stop()
	}
	figures["told_ms"] = told(r)
	forget(r, made[:])
	check(json.NewEncoder(os.Stdout).Encode(figures))
}
