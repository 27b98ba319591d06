// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	microreg "github.com/microreg/microreg/client-lib/go"
)

// impatient gives a call a second.
func impatient(o *microreg.Options) { o.Timeout = time.Second }

// silent is the address of a server that takes connections and says nothing.
func (s *suite) silent() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// calls are all calls of a registry.
func calls(r Registry) map[string]func() error {
	one := service(name(), "1", 1)
	return map[string]func() error{
		"register":   func() error { return r.Register(one, time.Minute) },
		"deregister": func() error { return r.Deregister(one) },
		"get":        func() error { _, err := r.GetService(one.Name); return err },
		"list":       func() error { _, err := r.ListServices(); return err },
	}
}

// A registry that cannot be asked is an error, in time and of its own: whoever
// takes it for "not found" forgets services that are there.
func unreachable(s *suite) {
	for _, address := range []string{"127.0.0.1:1", s.silent()} {
		r := s.New([]string{address}, microreg.Via(s.via), impatient)
		for what, call := range calls(r) {
			began := time.Now()
			err := call()
			if !errors.Is(err, microreg.ErrUnavailable) || errors.Is(err, s.ErrNotFound) ||
				!strings.Contains(err.Error(), address) {
				s.Fatalf("%s at %s: %v", what, address, err)
			}
			if passed := time.Since(began); passed > 2*time.Second {
				s.Fatalf("%s at %s: after %v", what, address, passed)
			}
		}
		w, err := r.Watch("")
		if err != nil {
			s.Fatalf("watch at %s: %v", address, err)
		}
		w.Stop()
		if _, err := w.Next(); err != s.ErrWatcherStopped { //nolint:errorlint // The variable itself.
			s.Fatalf("watch at %s: %v", address, err)
		}
	}
}

// The contexts that go-micro's options carry end calls and watchers.
func contexts(s *suite) {
	short, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	r := s.WithContext(s.New([]string{s.silent()}, microreg.Via(s.via)), short)
	for what, call := range calls(r) {
		began := time.Now()
		if err := call(); !errors.Is(err, context.DeadlineExceeded) ||
			time.Since(began) > time.Second {
			s.Fatalf("%s: %v after %v", what, err, time.Since(began))
		}
	}
	long, end := context.WithCancel(context.Background())
	one := service(name(), "1", 1)
	whole := s.open()
	w := s.watch(s.WithContext(whole, long), one.Name)
	s.register(whole, one, 0)
	w.expect("create", one)
	end()
	select {
	case err := <-w.ended:
		if err != s.ErrWatcherStopped { //nolint:errorlint // The variable itself.
			s.Fatal(err)
		}
	case <-time.After(5 * time.Second):
		s.Fatal("the watcher outlives its context")
	}
}

// A node whose check is critical is not found, and told as gone; a warning is no
// reason (the consul plugin's tests).
func critical(s *suite) {
	r := s.open()
	one := &Service{Name: name(), Nodes: []*Node{{Address: "10.0.0.1:80"}}}
	one.Nodes[0].ID = one.Name + "-1"
	put := func(path, body string) {
		s.Helper()
		request, err := http.NewRequest(http.MethodPut, "http://"+s.cluster.Addr(0)+path,
			strings.NewReader(body))
		if err != nil {
			s.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			s.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			s.Fatalf("%s: %s", path, response.Status)
		}
	}
	check := func(state string) { put("/v1/agent/check/"+state+"/service:"+one.Nodes[0].ID, "") }
	w := s.watch(r, one.Name)
	put("/v1/agent/service/register", `{"ID":"`+one.Nodes[0].ID+`","Name":"`+one.Name+
		`","Address":"10.0.0.1","Port":80,"Check":{"TTL":"60s","Status":"passing"}}`)
	s.Cleanup(func() { put("/v1/agent/service/deregister/"+one.Nodes[0].ID, "") })
	w.expect("create", one)
	check("warn")
	s.equal(s.get(r, one.Name), []*Service{one})
	check("fail")
	w.expect("delete", one)
	s.gone(r, one.Name)
	check("pass")
	w.expect("create", one)
	s.equal(s.get(r, one.Name), []*Service{one})
}
