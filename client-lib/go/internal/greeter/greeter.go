// SPDX-License-Identifier: Apache-2.0

// Package greeter plays a greeter of go-micro in two processes: its server is
// killed with kill -9, and the client must stop calling it in time.
package greeter

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	microreg "github.com/microreg/microreg/client-lib/go"
	"github.com/microreg/microreg/client-lib/go/internal/cluster"
	"github.com/microreg/microreg/client-lib/go/internal/conformance"
)

const (
	service = "greeter"
	// ttl is the greeter's, and grace what the registry promises after it.
	ttl   = 2 * time.Second
	grace = time.Second
)

// Request and Response are what the greeter speaks.
type (
	// Request asks for a greeting.
	Request struct {
		Name string `json:"name"`
	}
	// Response is one.
	Response struct {
		Greeting string `json:"greeting"`
	}
	// Say is the handler.
	Say struct{}
)

// Hello greets.
func (*Say) Hello(_ context.Context, in *Request, out *Response) error {
	out.Greeting = "Hello " + in.Name
	return nil
}

// A Kit is what differs between the versions of go-micro.
type Kit struct {
	// Serve runs a service of that name with a Say, configured by the command
	// line, until it is killed.
	Serve func(service string)
	// Caller returns what calls Say.Hello of the service once, without a retry,
	// through that version's selector and cache on a registry at addrs. It tells
	// onCall the address of each node that it calls.
	Caller func(addrs []string, via microreg.Transport, service string,
		onCall func(address string)) func(ctx context.Context) error
}

// Main is TestMain: in the process of a server it is the server.
func Main(m *testing.M, kit Kit) {
	if os.Getenv("MICROREG_GREETER") == "server" {
		kit.Serve(service)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Rounds is how often a server is killed: GREETER_ROUNDS, or 2.
func Rounds() int {
	if rounds, err := strconv.Atoi(os.Getenv("GREETER_ROUNDS")); err == nil && rounds > 0 {
		return rounds
	}
	return 2
}

// Run plays the rounds, by each transport. In every second one the leader of the
// registry is killed, too, at the same moment.
func Run(t *testing.T, kit Kit) {
	for name, via := range conformance.Transports() {
		t.Run(name, func(t *testing.T) {
			g := &game{T: t, cluster: cluster.Start(t), calls: map[string]call{}}
			g.registry = microreg.New(microreg.Options{Addrs: g.cluster.Addrs(0),
				Transport: microreg.NetHTTP})
			g.play(kit, via)
		})
	}
}

// A call is the last one of an address.
type call struct {
	at  time.Time
	err error
}

type game struct {
	*testing.T
	cluster  *cluster.Cluster
	registry *microreg.Client
	mu       sync.Mutex // Over calls and calling.
	calls    map[string]call
	calling  string
}

func (g *game) play(kit Kit, via microreg.Transport) {
	g.start("survivor")
	survivor := g.addresses()[0]
	once := kit.Caller(g.cluster.Addrs(0), via, service, func(address string) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.calling = address
		g.calls[address] = call{at: time.Now()}
	})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go g.keepCalling(ctx, once)
	for round := 0; round < Rounds(); round++ {
		g.round(round, survivor)
	}
}

// keepCalling calls every 5 ms, one call at a time.
func (g *game) keepCalling(ctx context.Context, once func(context.Context) error) {
	for ctx.Err() == nil {
		bounded, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := once(bounded)
		cancel()
		g.mu.Lock()
		if last, ok := g.calls[g.calling]; ok {
			last.err = err
			g.calls[g.calling] = last
		}
		g.mu.Unlock()
		time.Sleep(5 * time.Millisecond)
	}
}

func (g *game) last(address string) call {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.calls[address]
}

func (g *game) round(round int, survivor string) {
	victim := g.start(fmt.Sprintf("victim-%d", round))
	address := ""
	for _, one := range g.addresses() {
		if one != survivor {
			address = one
		}
	}
	cluster.Eventually(g, "calls of both", 20*time.Second, func() bool {
		v, s := g.last(address), g.last(survivor)
		return !v.at.IsZero() && v.err == nil && !s.at.IsZero() && s.err == nil
	})
	// Just renewed or about to be: the moment is another one each time.
	time.Sleep(time.Duration(round*370%1000) * time.Millisecond)
	withLeader, leader := round%2 == 1, -1
	if withLeader {
		leader = g.cluster.Leader()
	}
	killed := time.Now()
	_ = victim.Process.Kill()
	if withLeader {
		g.cluster.Kill(leader)
	}
	_ = victim.Wait()
	time.Sleep(time.Until(killed.Add(ttl + grace + 500*time.Millisecond)))
	v, s := g.last(address), g.last(survivor)
	late := v.at.Sub(killed)
	g.Logf("round %d, leader killed too: %v; last call of the dead server after %d ms",
		round, withLeader, late.Milliseconds())
	if late > ttl+grace {
		g.Fatalf("the dead server was called %v after its death", late)
	}
	if since := time.Since(s.at); since > time.Second || s.err != nil {
		g.Fatalf("the living server was called %v ago, with error %v", since, s.err)
	}
	if withLeader {
		g.cluster.Run(leader)
	}
}

// start starts a server process and waits until it is registered.
func (g *game) start(name string) *exec.Cmd {
	g.Helper()
	before := len(g.addresses())
	program, err := os.Executable()
	if err != nil {
		g.Fatal(err)
	}
	log, err := os.Create(filepath.Join(g.TempDir(), name+".log"))
	if err != nil {
		g.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(program, "--registry=microreg",
		"--registry_address="+strings.Join(g.cluster.Addrs(0), ","),
		"--server_address=127.0.0.1:0", "--register_interval=1",
		fmt.Sprintf("--register_ttl=%d", ttl/time.Second))
	cmd.Env = append(os.Environ(), "MICROREG_GREETER=server")
	cmd.Stdout, cmd.Stderr = log, log
	cluster.DieWithParent(cmd)
	if err := cmd.Start(); err != nil {
		g.Fatal(err)
	}
	g.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if text, err := os.ReadFile(log.Name()); err == nil && g.Failed() {
			g.Logf("---- %s\n%s", name, text[max(0, len(text)-2000):])
		}
	})
	cluster.Eventually(g, name+" in the registry", 20*time.Second, func() bool {
		return len(g.addresses()) == before+1
	})
	return cmd
}

// addresses are those of the greeters that the registry knows.
func (g *game) addresses() []string {
	var out []string
	var found []json.RawMessage
	if g.registry.Get(context.Background(), service, &found) != nil {
		return nil
	}
	for _, one := range conformance.Convert[[]conformance.Service](found) {
		for _, node := range one.Nodes {
			out = append(out, node.Address)
		}
	}
	return out
}
