// SPDX-License-Identifier: Apache-2.0

// Package conformance says how a go-micro registry behaves, in go-micro's words
// but for all major versions at once: what its own tests of the memory and mdns
// registries, the cache, the selector and the watchers demand, and what the
// interface promises. Each backend runs it against a cluster of its own.
package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"sort"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	microreg "github.com/microreg/microreg/client-lib/go"
	"github.com/microreg/microreg/client-lib/go/internal/cluster"
)

// The types of go-micro's registry package, which have the same JSON in all
// versions.
type (
	// Service is registry.Service.
	Service struct {
		Name      string            `json:"name"`
		Version   string            `json:"version"`
		Metadata  map[string]string `json:"metadata"`
		Endpoints []*Endpoint       `json:"endpoints"`
		Nodes     []*Node           `json:"nodes"`
	}
	// Node is registry.Node.
	Node struct {
		ID       string            `json:"id"`
		Address  string            `json:"address"`
		Metadata map[string]string `json:"metadata"`
	}
	// Endpoint is registry.Endpoint.
	Endpoint struct {
		Name     string            `json:"name"`
		Request  *Value            `json:"request"`
		Response *Value            `json:"response"`
		Metadata map[string]string `json:"metadata"`
	}
	// Value is registry.Value.
	Value struct {
		Name   string   `json:"name"`
		Type   string   `json:"type"`
		Values []*Value `json:"values"`
	}
	// Result is registry.Result.
	Result struct {
		Action  string
		Service *Service
	}
)

// A Registry is a registry.Registry of some version.
type Registry interface {
	Init(addrs []string) error
	Addrs() []string
	Register(s *Service, ttl time.Duration) error
	Deregister(s *Service) error
	GetService(name string) ([]*Service, error)
	ListServices() ([]*Service, error)
	Watch(name string) (Watcher, error)
	String() string
}

// A Watcher is a registry.Watcher of some version.
type Watcher interface {
	Next() (*Result, error)
	Stop()
}

// An Adaptor is one version's backend.
type Adaptor struct {
	// New is its constructor; ByName makes one as --registry=microreg does.
	New    func(addrs []string, settings ...microreg.Setting) Registry
	ByName func() Registry
	// NewCache and NewSelector make that version's cache and selector on a
	// registry of New; nil for a backend that has none. A selector returns the
	// ID of a node.
	NewCache    func(r Registry, ttl time.Duration) (cache Registry, stop func())
	NewSelector func(Registry) func(service string) (string, error)
	// WithContext makes a context go with each call of the registry and each
	// watcher, by that version's options.
	WithContext func(Registry, context.Context) Registry
	// The package's variables.
	ErrNotFound, ErrWatcherStopped error
}

// Convert makes a T of what has the same JSON.
func Convert[T any](from any) T {
	var to T
	text, err := json.Marshal(from)
	if err == nil {
		err = json.Unmarshal(text, &to)
	}
	if err != nil {
		panic(err)
	}
	return to
}

// A suite is one run: one backend, one transport, one cluster.
type suite struct {
	*testing.T
	Adaptor
	cluster *cluster.Cluster
	via     microreg.Transport
}

// Transports are those that this program has.
func Transports() map[string]microreg.Transport {
	out := map[string]microreg.Transport{"net_http": microreg.NetHTTP}
	if microreg.HasC {
		out["c"] = microreg.C
	}
	return out
}

// Run runs all tests, by each transport.
func Run(t *testing.T, adaptor Adaptor) {
	c := cluster.Start(t)
	for name, via := range Transports() {
		t.Run(name, func(t *testing.T) {
			for _, test := range tests {
				test := test
				t.Run(test.claim, func(t *testing.T) {
					t.Parallel() // They wait for TTLs, most of the time.
					test.run(&suite{t, adaptor, c, via})
				})
			}
		})
	}
}

var tests = []struct {
	claim string
	run   func(s *suite)
}{
	{"each_version_of_a_service_is_found", versions},
	{"what_is_registered_is_found_at_once_and_gone_at_once", registerAndGone},
	{"everything_of_a_service_is_kept", everythingKept},
	{"all_nodes_of_a_registration_are_registered", allNodes},
	{"registering_again_replaces_or_renews", replaces},
	{"an_unknown_service_is_not_found", unknown},
	{"what_cannot_be_registered_is_refused", refused},
	{"a_registration_ends_with_its_ttl", ttlEnds},
	{"a_registration_that_is_renewed_lives", ttlRenewed},
	{"a_thousand_readers_see_an_expired_service_gone", ttlConcurrent},
	{"a_version_ends_with_its_ttl_and_another_stays", ttlOfOneVersion},
	{"two_handles_see_each_other", twoHandles},
	{"two_processes_of_a_version_are_one_service", twoProcesses},
	{"results_are_copies", copies},
	{"a_watcher_of_all_sees_create_and_delete", watchAll},
	{"a_watcher_is_told_first_what_is_there", watchSnapshot},
	{"a_watcher_of_one_service_sees_only_that", watchOne},
	{"a_change_of_version_is_delete_and_create", watchVersion},
	{"an_expiry_is_a_delete_with_the_whole_node", watchExpiry},
	{"a_stopped_watcher_says_so_for_ever", watchStop},
	{"watchers_share_nothing", watchShared},
	{"a_registry_that_cannot_be_asked_is_an_error_in_time", unreachable},
	{"contexts_end_calls_and_watchers", contexts},
	{"a_node_with_a_critical_check_is_hidden", critical},
	{"init_retargets", initRetargets},
	{"the_name_of_the_registry_reaches_it", byName},
	{"a_cache_follows_the_registry", cacheFollows},
	{"a_cache_keeps_what_it_has_when_the_registry_is_gone", cacheKeeps},
	{"a_cache_has_what_is_stale_when_the_registry_is_gone", cacheStale},
	{"an_empty_cache_says_that_the_registry_is_gone", cacheEmpty},
	{"a_selector_stops_choosing_who_is_gone", selectorFollows},
}

// ---- helpers ----------------------------------------------------------------

func (s *suite) open() Registry {
	return s.New(s.cluster.Addrs(0), microreg.Via(s.via))
}

var names atomic.Int64

// name is one that no other test uses.
func name() string { return fmt.Sprintf("conf-%d", names.Add(1)) }

// service makes a service with nodes "<name>-<version>-<i>".
func service(name, version string, nodes int) *Service {
	s := &Service{Name: name, Version: version}
	for i := 1; i <= nodes; i++ {
		s.Nodes = append(s.Nodes, &Node{
			ID:       fmt.Sprintf("%s-%s-%d", name, version, i),
			Address:  fmt.Sprintf("10.0.0.%d:9999", i),
			Metadata: map[string]string{"foo": "bar"},
		})
	}
	return s
}

func (s *suite) register(r Registry, service *Service, ttl time.Duration) {
	s.Helper()
	if err := r.Register(service, ttl); err != nil {
		s.Fatalf("register %s: %v", service.Name, err)
	}
	s.Cleanup(func() { _ = r.Deregister(service) })
}

func (s *suite) deregister(r Registry, service *Service) {
	s.Helper()
	if err := r.Deregister(service); err != nil {
		s.Fatalf("deregister %s: %v", service.Name, err)
	}
}

func (s *suite) get(r Registry, name string) []*Service {
	s.Helper()
	services, err := r.GetService(name)
	if err != nil {
		s.Fatalf("get %s: %v", name, err)
	}
	return services
}

func (s *suite) gone(r Registry, name string) {
	s.Helper()
	services, err := r.GetService(name)
	if err != s.ErrNotFound || len(services) != 0 { //nolint:errorlint // The variable itself.
		s.Fatalf("get %s: %d services, %v, want registry.ErrNotFound", name, len(services), err)
	}
}

// equal compares services without regard for nil and empty.
func (s *suite) equal(got, want any) {
	s.Helper()
	text := func(v any) string {
		out, _ := json.Marshal(v)
		return strings.NewReplacer(":{}", ":null", ":[]", ":null").Replace(string(out))
	}
	if text(got) != text(want) {
		s.Fatalf("got  %s\nwant %s", text(got), text(want))
	}
}

// watch opens a watcher, and hands its results out with a deadline.
func (s *suite) watch(r Registry, name string) *reader {
	s.Helper()
	w, err := r.Watch(name)
	if err != nil {
		s.Fatalf("watch %q: %v", name, err)
	}
	out := &reader{s, w, make(chan *Result, 1000), make(chan error, 1)}
	go func() {
		for {
			result, err := w.Next()
			if err != nil {
				out.ended <- err
				return
			}
			out.results <- result
		}
	}()
	s.Cleanup(w.Stop)
	return out
}

type reader struct {
	s       *suite
	watcher Watcher
	results chan *Result
	ended   chan error
}

// next is the next result whose service has one of the names, all without any.
func (r *reader) next(names ...string) *Result {
	r.s.Helper()
	deadline := time.After(10 * time.Second)
	for {
		select {
		case result := <-r.results:
			if len(names) == 0 || contains(names, result.Service.Name) {
				return result
			}
		case err := <-r.ended:
			r.s.Fatalf("the watcher ended: %v", err)
		case <-deadline:
			r.s.Fatalf("no event in 10 s")
		}
	}
}

func (r *reader) expect(action string, want *Service) {
	r.s.Helper()
	got := r.next(want.Name)
	if got.Action != action {
		r.s.Fatalf("got %s of %s, want %s", got.Action, got.Service.Name, action)
	}
	r.s.equal(got.Service, want)
}

// quiet fails if an event comes.
func (r *reader) quiet(d time.Duration) {
	r.s.Helper()
	select {
	case result := <-r.results:
		text, _ := json.Marshal(result)
		r.s.Fatalf("unexpected %s", text)
	case err := <-r.ended:
		r.s.Fatalf("the watcher ended: %v", err)
	case <-time.After(d):
	}
}

func contains(list []string, one string) bool {
	for _, have := range list {
		if have == one {
			return true
		}
	}
	return false
}

func eventually(s *suite, what string, condition func() bool) {
	s.Helper()
	cluster.Eventually(s, what, 10*time.Second, condition)
}

func sortedIDs(services []*Service) []string {
	out := []string{}
	for _, service := range services {
		for _, node := range service.Nodes {
			out = append(out, node.ID)
		}
	}
	sort.Strings(out)
	return out
}

func sameIDs(services []*Service, ids ...string) bool {
	sort.Strings(ids)
	return reflect.DeepEqual(sortedIDs(services), append([]string{}, ids...))
}
