// SPDX-License-Identifier: Apache-2.0

package microreg_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	microreg "github.com/microreg/microreg/client-lib/go"
	"github.com/microreg/microreg/client-lib/go/internal/cluster"
	"github.com/microreg/microreg/client-lib/go/internal/conformance"
)

var ctx = context.Background()

func greeter(id string) *conformance.Service {
	return &conformance.Service{Name: "greeter", Version: "1", Nodes: []*conformance.Node{
		{ID: id, Address: "10.0.0.1:80"}}}
}

// client makes one that ends with the test.
func client(t *testing.T, options microreg.Options, via microreg.Transport) *microreg.Client {
	options.Transport = via
	c := microreg.New(options)
	t.Cleanup(c.Close)
	return c
}

// each runs a test by each transport.
func each(t *testing.T, test func(t *testing.T, via microreg.Transport)) {
	for name, via := range conformance.Transports() {
		t.Run(name, func(t *testing.T) { test(t, via) })
	}
}

// A follower keeps the list of what a watcher tells, and what was wrong with it.
type follower struct {
	known  map[string]bool
	events chan string // "create greeter-1".
	wrong  chan string
}

func follow(w *microreg.Watcher) *follower {
	f := &follower{map[string]bool{}, make(chan string, 10000), make(chan string, 10000)}
	go func() {
		defer close(f.events)
		last := uint64(0)
		for {
			event, err := w.Next()
			if err != nil {
				if !errors.Is(err, microreg.ErrStopped) {
					f.wrong <- err.Error()
				}
				return
			}
			var s conformance.Service
			if err := event.Decode(&s); err != nil || len(s.Nodes) != 1 {
				f.wrong <- fmt.Sprintf("%s: %v", event.Service, err)
				continue
			}
			id := s.Nodes[0].ID
			if f.known[id] != (event.Action != "create") || event.Index < last {
				f.wrong <- fmt.Sprintf("%s %s at %d, after %d", event.Action, id,
					event.Index, last)
			}
			f.known[id], last = event.Action != "delete", event.Index
			f.events <- event.Action + " " + id
		}
	}()
	return f
}

func (f *follower) expect(t *testing.T, want string, limit time.Duration) {
	t.Helper()
	select {
	case got := <-f.events:
		if got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	case <-time.After(limit):
		t.Fatalf("no %q in %v", want, limit)
	}
	select {
	case wrong := <-f.wrong:
		t.Fatal(wrong)
	default:
	}
}

// A server that is killed, or hangs, costs a call less than a second; a server
// that is back has its place again.
func TestCallsFailOver(t *testing.T) {
	each(t, func(t *testing.T, via microreg.Transport) {
		c := cluster.Start(t)
		r := client(t, microreg.Options{Addrs: c.Addrs(c.Leader())}, via)
		first := c.Leader()
		if err := r.Register(ctx, greeter("greeter-1"), 0); err != nil {
			t.Fatal(err)
		}
		fast := func(what string) {
			t.Helper()
			began := time.Now()
			var found []*conformance.Service
			if err := r.Get(ctx, "greeter", &found); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			t.Logf("%s: %v", what, time.Since(began))
			if passed := time.Since(began); passed > time.Second {
				t.Fatalf("%s: %v", what, passed)
			}
		}
		follower := (first + 1) % cluster.Servers
		_ = r.Configure(microreg.Options{Addrs: c.Addrs(follower), Transport: via})
		c.Signal(follower, syscall.SIGSTOP)
		fast("the first server hangs")
		fast("and still")
		c.Signal(follower, syscall.SIGCONT)
		c.Kill(follower)
		fast("the first server is dead")
		c.Run(follower)
		_ = r.Configure(microreg.Options{Addrs: c.Addrs(first), Transport: via})
		fast("before the leader dies")
		c.Kill(first)
		began := time.Now()
		cluster.Eventually(t, "an answer without the old leader", 5*time.Second, func() bool {
			var found []*conformance.Service
			return r.Get(ctx, "greeter", &found) == nil
		})
		t.Logf("an answer %v after the leader's death", time.Since(began))
	})
}

// Watchers see each change once, in order, while one server after the other is
// killed; none sees an error.
func TestWatchersSurviveKills(t *testing.T) {
	each(t, func(t *testing.T, via microreg.Transport) {
		c := cluster.Start(t)
		watching := client(t, microreg.Options{Addrs: c.Addrs(0),
			Log: func(text string) { t.Log(text) }}, via)
		writing := client(t, microreg.Options{Addrs: c.Addrs(1)}, microreg.NetHTTP)
		one, err := watching.Watch(ctx, "greeter")
		if err != nil {
			t.Fatal(err)
		}
		all, err := watching.Watch(ctx, "")
		if err != nil {
			t.Fatal(err)
		}
		followers := []*follower{follow(one), follow(all)}
		change := func(action, id string) {
			t.Helper()
			call := func() error { return writing.Register(ctx, greeter(id), 0) }
			if action == "delete" {
				call = func() error { return writing.Deregister(ctx, greeter(id)) }
			}
			cluster.Eventually(t, action+" "+id, 10*time.Second, func() bool { return call() == nil })
			began := time.Now()
			for _, f := range followers {
				f.expect(t, action+" "+id, 4*time.Second)
			}
			t.Logf("%s %s told %v after it was answered", action, id, time.Since(began))
		}
		for i := 0; i < 4; i++ {
			id := fmt.Sprintf("greeter-%d", i)
			change("create", id)
			killed := c.Leader()
			c.Kill(killed)
			change("create", id+"-b")
			change("delete", id)
			c.Run(killed)
		}
		one.Stop()
		all.Stop()
		for _, f := range followers {
			for event := range f.events {
				t.Errorf("one event too many: %s", event)
			}
		}
	})
}

// A hundred thousand changes are not kept for a watcher that does not read: it
// is told the difference.
func TestASlowWatcherIsToldTheDifference(t *testing.T) {
	each(t, func(t *testing.T, via microreg.Transport) {
		c := cluster.Start(t)
		r := client(t, microreg.Options{Addrs: c.Addrs(0)}, via)
		w, err := r.Watch(ctx, "greeter")
		if err != nil {
			t.Fatal(err)
		}
		f := (*follower)(nil)
		for i := 0; i < 6000; i += 3 {
			s := greeter("g")
			s.Nodes = nil
			for j := 0; j < 3; j++ {
				s.Nodes = append(s.Nodes, &conformance.Node{
					ID: fmt.Sprintf("g-%d", j), Address: fmt.Sprintf("10.0.0.1:%d", i+1)})
			}
			if err := r.Register(ctx, s, 0); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Register(ctx, greeter("last"), 0); err != nil {
			t.Fatal(err)
		}
		f = follow(w)
		cluster.Eventually(t, "the last change", 20*time.Second, func() bool {
			select {
			case event := <-f.events:
				return event == "create last"
			default:
				return false
			}
		})
		select {
		case wrong := <-f.wrong:
			t.Fatal(wrong)
		default:
		}
		w.Stop()
	})
}

// What is wrong is said in bounded time, with the address that was tried.
func TestErrorsNameWhatWasTried(t *testing.T) {
	each(t, func(t *testing.T, via microreg.Transport) {
		garbage := listen(t, func(c net.Conn) {
			_, _ = bufio.NewReader(c).ReadString('\n')
			_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{\"a\":1}"))
		})
		silent := listen(t, func(c net.Conn) { time.Sleep(5 * time.Second) })
		noise := listen(t, func(c net.Conn) { _, _ = c.Write([]byte("SSH-2.0-OpenSSH_9.2\r\n")) })
		for what, address := range map[string]string{"garbage": garbage, "silent": silent,
			"noise": noise, "refused": "127.0.0.1:1", "unresolvable": "no-such-host.invalid:8500"} {
			r := client(t, microreg.Options{Addrs: []string{address}, Timeout: time.Second}, via)
			began := time.Now()
			var found []*conformance.Service
			err := r.Get(ctx, "greeter", &found)
			if !errors.Is(err, microreg.ErrUnavailable) || !strings.Contains(err.Error(), address) {
				t.Errorf("%s: %v, want an error that names %s", what, err, address)
			}
			if passed := time.Since(began); passed > 2*time.Second {
				t.Errorf("%s: after %v", what, passed)
			}
			r.Close()
		}
	})
}

// listen serves each connection by a function.
func listen(t *testing.T, serve func(net.Conn)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); serve(c) }()
		}
	}()
	return l.Addr().String()
}

// A call ends with the caller's context, though the server is silent.
func TestACallEndsWithItsContext(t *testing.T) {
	each(t, func(t *testing.T, via microreg.Transport) {
		silent := listen(t, func(c net.Conn) { time.Sleep(2 * time.Second) })
		r := client(t, microreg.Options{Addrs: []string{silent}, Timeout: 2 * time.Second}, via)
		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		began := time.Now()
		var found []*conformance.Service
		err := r.Get(short, "greeter", &found)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > time.Second {
			t.Fatalf("%v after %v", err, time.Since(began))
		}
	})
}

// Other options than addresses are changed without waiting for the calls in
// progress, which end as they would have, and the watchers are stopped.
func TestConfigureWaitsForNoCall(t *testing.T) {
	c := cluster.Start(t)
	each(t, func(t *testing.T, via microreg.Transport) {
		silent := listen(t, func(c net.Conn) { time.Sleep(5 * time.Second) })
		r := client(t, microreg.Options{Addrs: []string{silent}, Timeout: 2 * time.Second}, via)
		w, err := r.Watch(ctx, "greeter")
		if err != nil {
			t.Fatal(err)
		}
		failed := make(chan error, 1)
		go func() {
			var found []*conformance.Service
			failed <- r.Get(ctx, "greeter", &found)
		}()
		time.Sleep(100 * time.Millisecond) // Let it be asked, most of the time.
		began := time.Now()
		err = r.Configure(microreg.Options{Addrs: c.Addrs(0), Timeout: time.Second, Transport: via})
		if err == nil {
			err = r.Register(ctx, greeter("greeter-1"), 0)
		}
		if passed := time.Since(began); err != nil || passed > time.Second {
			t.Fatalf("registered elsewhere: %v after %v", err, passed)
		}
		if _, err := w.Next(); !errors.Is(err, microreg.ErrStopped) {
			t.Fatalf("the watcher of before: %v", err)
		}
		if err := <-failed; !errors.Is(err, microreg.ErrUnavailable) ||
			!strings.Contains(err.Error(), silent) {
			t.Fatalf("the call of before: %v", err)
		}
	})
}

// Certificates and the token reach a server that wants them, watches included.
func TestTLSAndToken(t *testing.T) {
	c := cluster.Start(t)
	target, _ := url.Parse("http://" + c.Addr(0))
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.FlushInterval = -1
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Consul-Token") != "secret" {
			http.Error(w, "Permission denied", http.StatusForbidden)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	front.Config.ErrorLog = nil
	front.StartTLS()
	t.Cleanup(front.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(front.Certificate())
	address := strings.TrimPrefix(front.URL, "https://")
	works := func(t *testing.T, options microreg.Options, via microreg.Transport) {
		t.Helper()
		options.Addrs, options.Token = []string{address}, "secret"
		r := client(t, options, via)
		w, err := r.Watch(ctx, "greeter")
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		if err := r.Register(ctx, greeter("greeter-1"), 0); err != nil {
			t.Fatal(err)
		}
		if event, err := w.Next(); err != nil || event.Action != "create" {
			t.Fatalf("%v %v", event, err)
		}
		r.Close()
	}
	each(t, func(t *testing.T, via microreg.Transport) {
		works(t, microreg.Options{CAFile: ca, Secure: true}, via)
		works(t, microreg.Options{Insecure: true, Secure: true}, via)
		for what, options := range map[string]microreg.Options{
			"the system's authorities": {Secure: true, Token: "secret"},
			"no TLS":                   {Token: "secret"},
			"no token":                 {CAFile: ca, Secure: true, Token: "wrong"},
		} {
			options.Addrs, options.Timeout = []string{address}, time.Second
			r := client(t, options, via)
			if err := r.Register(ctx, greeter("greeter-1"), 0); err == nil {
				t.Errorf("%s: accepted", what)
			} else if what == "no token" && !errors.Is(err, microreg.ErrDenied) {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
	works(t, microreg.Options{TLSConfig: &tls.Config{RootCAs: pool}, Secure: true}, microreg.Auto)
}

// Answers from memory have what this client wrote, and are those of a read.
func TestAnswersFromMemory(t *testing.T) {
	c := cluster.Start(t)
	each(t, func(t *testing.T, via microreg.Transport) {
		r := client(t, microreg.Options{Addrs: c.Addrs(1), Watched: true}, via)
		w, err := r.Watch(ctx, "greeter")
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		for i := 0; i < 200; i++ {
			s := greeter("greeter-1")
			s.Nodes[0].Address = fmt.Sprintf("10.0.0.1:%d", i+1)
			if err := r.Register(ctx, s, 0); err != nil {
				t.Fatal(err)
			}
			var found []*conformance.Service
			if err := r.Get(ctx, "greeter", &found); err != nil || len(found) != 1 ||
				len(found[0].Nodes) != 1 || found[0].Nodes[0].Address != s.Nodes[0].Address {
				t.Fatalf("%d: %v", i, err)
			}
		}
		_ = r.Deregister(ctx, greeter("greeter-1"))
		var found []*conformance.Service
		if err := r.Get(ctx, "greeter", &found); err != microreg.ErrNotFound { //nolint:errorlint // The variable itself.
			t.Fatal(err)
		}
	})
}
