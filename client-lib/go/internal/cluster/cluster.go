// SPDX-License-Identifier: Apache-2.0

// Package cluster runs three microreg servers for tests, on loopback addresses
// that no other run uses.
package cluster

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Servers is how many there are.
const Servers = 3

// A Cluster is three servers, some of which may be dead.
type Cluster struct {
	t     testing.TB
	dir   string
	net   string
	guard io.Closer // Holds the net.
	nodes [Servers]*exec.Cmd
}

// Start starts a cluster and waits for its leader. It ends with the test. Without
// a binary (MICROREG, else build/microreg of the checkout) the test is skipped,
// unless MICROREG is set.
func Start(t testing.TB) *Cluster {
	t.Helper()
	c := &Cluster{t: t, dir: t.TempDir()}
	if _, err := os.Stat(binary()); err != nil {
		if os.Getenv("MICROREG") != "" {
			t.Fatalf("MICROREG: %v", err)
		}
		t.Skipf("no server to test against: run make, or set MICROREG (%v)", err)
	}
	c.takeNet()
	t.Cleanup(c.stop)
	for i := range c.nodes {
		c.Run(i)
	}
	Eventually(c.t, "a leader that all know", 30*time.Second, func() bool {
		leaders := map[string]bool{}
		for i := range c.nodes {
			leaders[c.leaderOf(i)] = true
		}
		return len(leaders) == 1 && !leaders[""]
	})
	return c
}

func binary() string {
	if path := os.Getenv("MICROREG"); path != "" {
		return path
	}
	dir, _ := os.Getwd()
	for ; dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		path := filepath.Join(dir, "build", "microreg")
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return "build/microreg"
}

// takeNet finds a net that nobody uses. It is held by a socket with an abstract
// name, the one that the Python tests use too, which ends with this process.
func (c *Cluster) takeNet() {
	for i := 0; i < 1000; i++ {
		name := fmt.Sprintf("127.%d.%d", 20+rand.Intn(200), rand.Intn(256))
		guard, err := net.ListenPacket("unixgram", "@microreg-net-"+name)
		if err == nil {
			c.net, c.guard = name, guard
			return
		}
	}
	c.t.Fatal("no loopback net is free")
}

// Addr is the HTTP address of one server.
func (c *Cluster) Addr(i int) string { return fmt.Sprintf("%s.%d:8500", c.net, i+1) }

// Addrs are the addresses of all, the first one at index first.
func (c *Cluster) Addrs(first int) []string {
	var out []string
	for i := range c.nodes {
		out = append(out, c.Addr((first+i)%Servers))
	}
	return out
}

// Run starts a server that is not running.
func (c *Cluster) Run(i int) {
	c.t.Helper()
	host := fmt.Sprintf("%s.%d", c.net, i+1)
	name := fmt.Sprintf("n%d", i+1)
	args := []string{"agent", "-server", fmt.Sprintf("-bootstrap-expect=%d", Servers),
		"-node=" + name, "-bind=" + host, "-client=" + host, "-advertise=" + host,
		"-data-dir=" + filepath.Join(c.dir, name)}
	for j := range c.nodes {
		args = append(args, fmt.Sprintf("-retry-join=%s.%d", c.net, j+1))
	}
	log, err := os.OpenFile(filepath.Join(c.dir, name+".log"),
		os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(binary(), args...)
	cmd.Stdout, cmd.Stderr = log, log
	DieWithParent(cmd)
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.nodes[i] = cmd
}

// Kill kills a server with SIGKILL.
func (c *Cluster) Kill(i int) {
	cmd := c.nodes[i]
	if cmd == nil {
		return
	}
	c.nodes[i] = nil
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// Signal sends a signal to a server: SIGSTOP makes it hang, SIGCONT go on.
func (c *Cluster) Signal(i int, signal syscall.Signal) {
	_ = c.nodes[i].Process.Signal(signal)
}

// Leader is the number of the leader that the servers name.
func (c *Cluster) Leader() int {
	c.t.Helper()
	leader := -1
	Eventually(c.t, "a leader", 30*time.Second, func() bool {
		for i := range c.nodes {
			if c.nodes[i] == nil {
				continue
			}
			host, _, _ := strings.Cut(c.leaderOf(i), ":")
			for j := range c.nodes {
				if host == fmt.Sprintf("%s.%d", c.net, j+1) && c.nodes[j] != nil {
					leader = j
					return true
				}
			}
		}
		return false
	})
	return leader
}

func (c *Cluster) leaderOf(i int) string {
	client := http.Client{Timeout: time.Second}
	response, err := client.Get("http://" + c.Addr(i) + "/v1/status/leader")
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	var leader string
	if json.NewDecoder(response.Body).Decode(&leader) != nil {
		return ""
	}
	return leader
}

// Eventually waits until a condition holds.
func Eventually(t testing.TB, what string, limit time.Duration, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

func (c *Cluster) stop() {
	for i, cmd := range c.nodes {
		if cmd != nil {
			_ = cmd.Process.Signal(syscall.SIGCONT)
		}
		c.Kill(i)
	}
	_ = c.guard.Close()
	if !c.t.Failed() {
		return
	}
	for i := range c.nodes {
		path := filepath.Join(c.dir, fmt.Sprintf("n%d.log", i+1))
		if log, err := os.ReadFile(path); err == nil {
			c.t.Logf("---- %s\n%s", path, log[max(0, len(log)-2000):])
		}
	}
}
