// SPDX-License-Identifier: Apache-2.0

// Package program is what the programs of the fleet have in common: a go-micro
// registry driven by lines of JSON, whatever the major version of go-micro.
//
// A request on standard input is one line, {"id":1,"do":"get","name":"greeter"};
// its answer on standard output is {"id":1,"result":...} or {"id":1,"error":...}.
// What a watcher tells is {"watch":1,"action":"create","service":{...}}, where 1
// is the id of the request that began it. The end of the input ends the program
// without a farewell to the registry.
package program

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Registry is go-micro's interface of that name, with its services as JSON.
type Registry interface {
	Register(service []byte, ttl time.Duration) error
	Deregister(service []byte) error
	Get(name string) (interface{}, error)
	List() (interface{}, error)
	Watch(name string) (Watcher, error)
}

// Watcher is go-micro's interface of that name.
type Watcher interface {
	Next() (action string, service interface{}, err error)
	Stop()
}

// Opener makes the registry that go-micro's command line calls name, as the
// command line does.
type Opener func(name string, addresses []string) (Registry, error)

type request struct {
	ID         int             `json:"id"`
	Do         string          `json:"do"`
	Name       string          `json:"name"`
	Registry   string          `json:"registry"`
	Addresses  []string        `json:"addresses"`
	Watch      int             `json:"watch"`
	Service    json.RawMessage `json:"service"`
	TTLMs      int             `json:"ttl_ms"`
	IntervalMs int             `json:"interval_ms"`
}

type answer struct {
	ID     int         `json:"id"`
	Result interface{} `json:"result"`
	Error  string      `json:"error,omitempty"`
}

type event struct {
	Watch   int         `json:"watch"`
	Action  string      `json:"action,omitempty"`
	Service interface{} `json:"service,omitempty"`
	Error   string      `json:"error,omitempty"`
}

type driver struct {
	open     Opener
	registry Registry
	watchers map[int]Watcher

	lock sync.Mutex
	out  *json.Encoder
}

// Drive obeys standard input until it ends.
func Drive(open Opener) {
	d := &driver{open: open, watchers: map[int]Watcher{},
		out: json.NewEncoder(os.Stdout)}
	os.Stdout = os.Stderr // go-micro's log is no answer.
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			return
		}
		var r request
		if err == nil {
			err = json.Unmarshal(line, &r)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "fleet:", err)
			os.Exit(1)
		}
		a := answer{ID: r.ID}
		if a.Result, err = d.do(&r); err != nil {
			a.Error = err.Error()
		}
		d.tell(a)
	}
}

func (d *driver) tell(what interface{}) {
	d.lock.Lock()
	defer d.lock.Unlock()
	if err := d.out.Encode(what); err != nil {
		os.Exit(1)
	}
}

func (d *driver) do(r *request) (interface{}, error) {
	if r.Do == "open" {
		registry, err := d.open(r.Registry, r.Addresses)
		d.registry = registry
		return nil, err
	}
	if d.registry == nil {
		return nil, fmt.Errorf("%s: no registry is open", r.Do)
	}
	switch r.Do {
	case "register":
		return nil, d.registry.Register(r.Service, ms(r.TTLMs))
	case "keep":
		return nil, d.keep(r)
	case "deregister":
		return nil, d.registry.Deregister(r.Service)
	case "get":
		return d.registry.Get(r.Name)
	case "list":
		return d.registry.List()
	case "watch":
		return nil, d.watch(r)
	case "stop":
		w, ok := d.watchers[r.Watch]
		if ok {
			w.Stop()
		}
		return ok, nil
	}
	return nil, fmt.Errorf("%q is no request", r.Do)
}

// keep registers a service again and again, as go-micro's servers do.
func (d *driver) keep(r *request) error {
	if err := d.registry.Register(r.Service, ms(r.TTLMs)); err != nil {
		return err
	}
	registry := d.registry
	go func() {
		for range time.Tick(ms(r.IntervalMs)) {
			if err := registry.Register(r.Service, ms(r.TTLMs)); err != nil {
				fmt.Fprintln(os.Stderr, "fleet: register:", err)
			}
		}
	}()
	return nil
}

func (d *driver) watch(r *request) error {
	w, err := d.registry.Watch(r.Name)
	if err != nil {
		return err
	}
	d.watchers[r.ID] = w
	go func() {
		for {
			action, service, err := w.Next()
			if err != nil {
				d.tell(event{Watch: r.ID, Error: err.Error()})
				return
			}
			d.tell(event{Watch: r.ID, Action: action, Service: service})
		}
	}()
	return nil
}

func ms(n int) time.Duration {
	return time.Duration(n) * time.Millisecond
}
