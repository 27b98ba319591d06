// SPDX-License-Identifier: Apache-2.0

package microreg_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	microreg "github.com/microreg/microreg/client-lib/go"
	"github.com/microreg/microreg/client-lib/go/internal/cluster"
	"github.com/microreg/microreg/client-lib/go/internal/conformance"
)

// counts are the goroutines, descriptors and threads of this process.
func counts(t *testing.T) (goroutines, descriptors, threads int) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc")
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("no /proc")
	}
	for _, line := range strings.Split(string(status), "\n") {
		_, _ = fmt.Sscanf(line, "Threads: %d", &threads)
	}
	return runtime.NumGoroutine(), len(entries), threads
}

// watcher follows one watch and counts what it is told, and its end.
func (l *load) watcher(w *microreg.Watcher) {
	for {
		if _, err := w.Next(); err != nil {
			if err != microreg.ErrStopped { //nolint:errorlint // The variable itself.
				l.wrong.Add(1)
			}
			l.ended.Add(1)
			return
		}
		l.told.Add(1)
	}
}

type load struct{ told, ended, wrong atomic.Int64 }

// A thousand waiting watchers, half of them of one service, hold no threads and
// one connection, and leave nothing behind: neither those that are stopped, by
// several goroutines at once, nor their client.
func TestWatchersHoldNoThreadsAndLeaveNothing(t *testing.T) {
	c := cluster.Start(t)
	each(t, func(t *testing.T, via microreg.Transport) {
		const watchers = 1000
		warm := client(t, microreg.Options{Addrs: c.Addrs(0)}, via)
		_ = warm.Deregister(ctx, greeter("warm"))
		warm.Close()
		http.DefaultClient.CloseIdleConnections()
		goroutines, descriptors, threads := counts(t)
		for round := 0; round < 3; round++ {
			r := client(t, microreg.Options{Addrs: c.Addrs(0)}, via)
			if err := r.Register(ctx, greeter("greeter-1"), 0); err != nil {
				t.Fatal(err)
			}
			var open []*microreg.Watcher
			var all load
			for i := 0; i < watchers; i++ {
				name := "greeter"
				if i%2 == 1 {
					name = fmt.Sprintf("greeter-%d", i)
				}
				w, err := r.Watch(ctx, name)
				if err != nil {
					t.Fatal(err)
				}
				open = append(open, w)
				go all.watcher(w)
			}
			cluster.Eventually(t, "all told", 10*time.Second, func() bool { return all.told.Load() == watchers/2 })
			if _, _, now := counts(t); now > threads+30 {
				t.Fatalf("%d threads before, %d with %d watchers", threads, now, watchers)
			}
			for _, w := range open[:watchers/2] {
				go w.Stop()
				go w.Stop() // The others end with their client.
			}
			r.Close()
			cluster.Eventually(t, "all ended", 10*time.Second, func() bool { return all.ended.Load() == watchers })
			if n := all.wrong.Load(); n > 0 {
				t.Fatalf("%d watchers ended with another error than ErrStopped", n)
			}
		}
		cluster.Eventually(t, "nothing left", 10*time.Second, func() bool {
			g, d, n := counts(t)
			if g <= goroutines+2 && d <= descriptors+2 && n <= threads+30 {
				return true
			}
			t.Logf("goroutines %d of %d, descriptors %d of %d", g, goroutines, d, descriptors)
			time.Sleep(200 * time.Millisecond)
			return false
		})
	})
}

// Two thousand callers of a registry that does not answer do not become as many
// threads, and none waits longer than its deadline.
func TestCallersOfADeadRegistryAreNoThreads(t *testing.T) {
	each(t, func(t *testing.T, via microreg.Transport) {
		const callers = 2000
		silent := listen(t, func(c net.Conn) { time.Sleep(5 * time.Second) })
		r := client(t, microreg.Options{Addrs: []string{silent}, Timeout: time.Second}, via)
		_, _, threads := counts(t)
		ended := make(chan error, callers)
		began := time.Now()
		for i := 0; i < callers; i++ {
			go func() {
				var found []*conformance.Service
				ended <- r.Get(ctx, "greeter", &found)
			}()
		}
		for i := 0; i < callers; i++ {
			if err := <-ended; !errors.Is(err, microreg.ErrUnavailable) {
				t.Fatalf("%v", err)
			}
		}
		_, _, now := counts(t)
		t.Logf("%d threads before, %d after, %v", threads, now, time.Since(began))
		if now > threads+100 || time.Since(began) > 4*time.Second {
			t.Fatal("that is too much")
		}
	})
}

// A client that nobody holds any more is collected, with its connections.
func TestAForgottenClientIsCollected(t *testing.T) {
	c := cluster.Start(t)
	each(t, func(t *testing.T, via microreg.Transport) {
		goroutines, descriptors, _ := counts(t)
		func() {
			for i := 0; i < 20; i++ {
				r := microreg.New(microreg.Options{Addrs: c.Addrs(0), Transport: via})
				w, err := r.Watch(ctx, "")
				if err == nil {
					err = r.Register(ctx, greeter("greeter-1"), 0)
				}
				if err == nil {
					_, err = w.Next()
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}()
		cluster.Eventually(t, "all collected", 10*time.Second, func() bool {
			runtime.GC()
			g, d, _ := counts(t)
			return g <= goroutines+2 && d <= descriptors+2
		})
	})
}
