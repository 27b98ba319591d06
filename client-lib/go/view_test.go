// SPDX-License-Identifier: Apache-2.0

package microreg

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

func node(name, version, id, address string) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"name":%q,"version":%q,"metadata":null,`+
		`"endpoints":null,"nodes":[{"id":%q,"address":%q,"metadata":null}]}`,
		name, version, id, address))
}

// testHub is a hub without a stream, and a watcher of each name.
func testHub(names ...string) (*hub, map[string]*watch) {
	wire, err := newHTTPWire(Options{Timeout: time.Second, Progress: time.Second}, nil)
	if err != nil {
		panic(err)
	}
	h := &wire.hub
	h.running = true // No run(): the test tells the lines.
	watches := map[string]*watch{}
	for _, name := range names {
		w, _ := h.watch(name)
		watches[name] = w.(*watch)
	}
	return h, watches
}

// drain reads what a watcher is told: "create a-1 10.0.0.1:1 at 7".
func drain(w *watch) []string {
	var out []string
	for {
		event, ok := w.pop()
		if !ok {
			return out
		}
		var s struct {
			Nodes []struct{ ID, Address string }
		}
		_ = json.Unmarshal(event.Service, &s)
		out = append(out, fmt.Sprintf("%s %s %s at %d", event.Action, s.Nodes[0].ID,
			s.Nodes[0].Address, event.Index))
	}
}

func event(action string, index uint64, more bool, service json.RawMessage) line {
	return line{Index: index, Action: action, More: more, Service: service}
}

func mark(action string, index uint64) line { return line{Index: index, Action: action} }

func expect(t *testing.T, w *watch, want ...string) {
	t.Helper()
	if got := drain(w); !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %q\nwant %q", got, want)
	}
}

// After a stream broke, a watcher is told what is new, and nothing again.
func TestASnapshotIsToldAsTheDifference(t *testing.T) {
	h, w := testHub("a")
	h.plan()
	h.apply([]line{event("create", 5, true, node("a", "1", "a-1", "h:1")),
		event("create", 5, true, node("a", "1", "a-2", "h:2")), mark("synced", 5)})
	expect(t, w["a"], "create a-1 h:1 at 5", "create a-2 h:2 at 5")
	h.lost()
	if p := h.plan(); !strings.Contains(string(p.body), `"index":5`) {
		t.Fatalf("the stream begins with %s", p.body)
	}
	h.apply([]line{{Index: 9, Action: "reset", More: true},
		event("create", 9, true, node("a", "1", "a-2", "h:22")),
		event("create", 9, true, node("a", "2", "a-3", "h:3")), mark("synced", 9)})
	expect(t, w["a"], "delete a-1 h:1 at 9", "update a-2 h:22 at 9", "create a-3 h:3 at 9")
}

// A snapshot that breaks off is as if it had never come.
func TestHalfASnapshotIsNotTold(t *testing.T) {
	h, w := testHub("a")
	h.plan()
	h.apply([]line{event("create", 5, true, node("a", "1", "a-1", "h:1")), mark("synced", 5)})
	drain(w["a"])
	h.apply([]line{{Index: 9, Action: "reset"}})
	h.lost()
	expect(t, w["a"])
	if p := h.plan(); !strings.Contains(string(p.body), `"index":0`) {
		t.Fatalf("the stream begins with %s", p.body)
	}
}

// Topics of one stream that have seen different amounts are told what is new to
// each of them.
func TestATopicIsNotToldWhatItHasSeen(t *testing.T) {
	h, w := testHub("a", "")
	h.plan()
	h.apply([]line{event("create", 5, true, node("a", "1", "a-1", "h:1")), mark("synced", 5)})
	expect(t, w["a"], "create a-1 h:1 at 5")
	expect(t, w[""], "create a-1 h:1 at 5")
	h.topics[""].index, h.isLive = 3, false
	h.apply([]line{event("update", 4, false, node("a", "1", "a-1", "h:0"))})
	expect(t, w["a"])
	expect(t, w[""], "update a-1 h:0 at 4")
}

// Who joins a stream of all is told what is known, at once.
func TestALateWatcherIsToldWhatIsKnown(t *testing.T) {
	h, _ := testHub("")
	h.plan()
	h.apply([]line{event("create", 5, true, node("a", "1", "a-1", "h:1")),
		event("create", 5, true, node("b", "1", "b-1", "h:1")), mark("synced", 5)})
	late, _ := h.watch("b")
	expect(t, late.(*watch), "create b-1 h:1 at 5")
	h.apply([]line{event("delete", 6, false, node("b", "1", "b-1", "h:1"))})
	expect(t, late.(*watch), "delete b-1 h:1 at 6")
}

// A queue that is too long becomes the difference.
func TestALongQueueIsReplaced(t *testing.T) {
	h, w := testHub("a")
	h.plan()
	h.apply([]line{event("create", 5, true, node("a", "1", "a-1", "h:1")), mark("synced", 5)})
	expect(t, w["a"], "create a-1 h:1 at 5")
	for i := uint64(6); i < 6+2*maxQueue; i++ {
		h.apply([]line{event("update", i, false, node("a", "1", "a-1", fmt.Sprintf("h:%d", i)))})
	}
	if n := len(w["a"].queue); n > maxQueue {
		t.Fatalf("%d events are kept", n)
	}
	last := 6 + 2*maxQueue - 1
	expect(t, w["a"], fmt.Sprintf("update a-1 h:%d at %d", last, last))
}

// What is answered from memory is as GET /registry has it.
func TestRenderMergesByVersion(t *testing.T) {
	v := view{}
	for _, service := range []json.RawMessage{node("a", "2", "a-3", "h:3"),
		node("a", "1", "a-2", "h:2"), node("a", "1", "a-1", "h:1")} {
		v.put(parseObject(service), 1)
	}
	text, err := v.render()
	want := `[{"name":"a","version":"1","metadata":null,"endpoints":null,"nodes":[` +
		`{"id":"a-1","address":"h:1","metadata":null},{"id":"a-2","address":"h:2","metadata":null}]},` +
		`{"name":"a","version":"2","metadata":null,"endpoints":null,"nodes":[` +
		`{"id":"a-3","address":"h:3","metadata":null}]}]`
	if err != nil || string(text) != want {
		t.Fatalf("%v\n%s\n%s", err, text, want)
	}
	if empty, _ := (view{}).render(); string(empty) != "[]" {
		t.Fatalf("%s", empty)
	}
}

// Whatever a server sends, a watcher that applies its events to an empty list
// has the view, and no event is one of nothing.
func FuzzLines(f *testing.F) {
	f.Add([]byte(`{"index":5,"action":"create","more":true,"service":` +
		string(node("a", "1", "a-1", "h:1")) + "}\n" + `{"index":5,"action":"synced"}` + "\n" +
		`{"index":6,"action":"update","service":` + string(node("a", "2", "a-1", "h:1")) + "}\n" +
		`{"index":7,"action":"reset","more":true}` + "\n" + `{"index":7,"action":"synced"}` + "\n" +
		`{"index":8,"action":"progress"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		h, w := testHub("a", "")
		h.plan()
		var pending []line
		for _, one := range strings.Split(string(text), "\n") {
			var l line
			if json.Unmarshal([]byte(one), &l) != nil {
				h.lost()
				h.plan()
				pending = nil
				continue
			}
			if pending = append(pending, l); !l.More {
				h.apply(pending)
				pending = nil
			}
		}
		for name, watch := range w {
			list := view{}
			for event, ok := watch.pop(); ok; event, ok = watch.pop() {
				has := list[event.object.key()] != nil
				if has != (event.Action != "create") {
					t.Fatalf("%q: %s of %s", name, event.Action, event.Service)
				}
				if event.Action == "delete" {
					list.remove(event.object, 0)
				} else {
					list.put(event.object, 0)
				}
			}
			if !reflect.DeepEqual(list, h.topics[name].known) {
				t.Fatalf("%q: %v, want %v", name, list, h.topics[name].known)
			}
		}
	})
}

// ---- addresses and servers --------------------------------------------------

func TestAddressesAreCompleted(t *testing.T) {
	for from, want := range map[string]endpoint{
		"host":                  {"host:8500", false},
		"host:1":                {"host:1", false},
		" 10.0.0.1 ":            {"10.0.0.1:8500", false},
		"::1":                   {"[::1]:8500", false},
		"[::1]":                 {"[::1]:8500", false},
		"[2001:db8::1]:99":      {"[2001:db8::1]:99", false},
		"https://host":          {"host:8500", true},
		"http://host:80/":       {"host:80", false},
		"etcd-cluster-client":   {"etcd-cluster-client:8500", false},
		"https://[2001:db8::1]": {"[2001:db8::1]:8500", true},
	} {
		_, servers, err := Options{Addrs: []string{"", from, " "}}.filled()
		if err != nil || len(servers) != 1 || servers[0] != want {
			t.Errorf("%q: %v %v, want %v", from, servers, err, want)
		}
	}
	for _, bad := range []string{"host:", "host:0", "host:70000", "host:http", ":8500",
		"a:b:c", "host/path", "user@host", "http://", "ho st", "host\x00"} {
		if _, _, err := (Options{Addrs: []string{bad}}).filled(); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	t.Setenv("MICROREG_HTTP_ADDR", "from-env:1")
	if _, servers, _ := (Options{}).filled(); servers[0].hostPort != "from-env:1" {
		t.Errorf("%v", servers)
	}
}

// A deadline that a transport could not count is moved to what it can, and text
// that would break a header is refused.
func TestOptionsAreBounded(t *testing.T) {
	for from, want := range map[time.Duration]time.Duration{
		0: DefaultTimeout, 1: time.Millisecond, 1 << 62: 24 * time.Hour} {
		if o, _, err := (Options{Timeout: from}).filled(); err != nil || o.Timeout != want {
			t.Errorf("%v: %v %v, want %v", from, o.Timeout, err, want)
		}
	}
	for _, o := range []Options{{Timeout: -1}, {Progress: -1}, {Token: "a\r\nX-Evil: b"},
		{CAFile: "ca\x00"}, {ServerName: "a\nb"}} {
		if _, _, err := o.filled(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// Who failed is asked last, and has its place again after a success.
func TestPeersRotate(t *testing.T) {
	p := &peers{}
	p.set([]endpoint{{"a:1", false}, {"b:1", false}, {"c:1", false}})
	order := func() string {
		var out []string
		for _, one := range p.order() {
			out = append(out, one.hostPort[:1])
		}
		return strings.Join(out, "")
	}
	a := p.list[0]
	p.failed(a)
	if got := order(); got != "bca" {
		t.Fatal(got)
	}
	a.avoided = time.Now().Add(-time.Second) // Its time has passed.
	if got := order(); got != "abc" {
		t.Fatal(got)
	}
	p.failed(a)
	p.failed(p.list[1])
	if got := order(); got != "cba" {
		t.Fatal(got)
	}
	p.succeeded(a)
	if got := order(); got != "acb" {
		t.Fatal(got)
	}
}

// Only the very same registration is renewed by its digests.
func TestLeasesKnowTheSame(t *testing.T) {
	l := &leases{}
	one, _ := parseRegistration(node("a", "1", "a-1", "h:1"), time.Second)
	longer, _ := parseRegistration(node("a", "1", "a-1", "h:1"), time.Minute)
	other, _ := parseRegistration(node("a", "1", "a-1", "h:2"), time.Second)
	l.put(one, map[string]string{"a-1": "digest"})
	if got := l.digests(one); len(got) != 1 || got[0].Digest != "digest" || got[0].Name != "a" {
		t.Fatalf("%v", got)
	}
	if l.digests(longer) != nil || l.digests(other) != nil {
		t.Fatal("another registration is taken for the same")
	}
	l.forget("a", []string{"a-1"})
	if l.digests(one) != nil {
		t.Fatal("it is not forgotten")
	}
}
