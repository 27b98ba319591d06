// SPDX-License-Identifier: Apache-2.0

// A program of the fleet on go-micro v5: with "serve" as its first argument a
// service of go-micro's with all of its command line, with "call" a client of one
// that calls it again and again, else a registry driven by standard input.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	_ "github.com/microreg/microreg/client-lib/go/micro5"
	"github.com/microreg/microreg/tests/fleet/program"
	micro "go-micro.dev/v5"
	"go-micro.dev/v5/client"
	"go-micro.dev/v5/cmd"
	"go-micro.dev/v5/registry"
)

type driven struct {
	registry.Registry
}

type watching struct {
	registry.Watcher
}

// open does what go-micro's command line does with --registry and
// --registry_address.
func open(name string, addresses []string) (program.Registry, error) {
	makeRegistry, ok := cmd.DefaultRegistries[name]
	if !ok {
		return nil, fmt.Errorf("registry %s not found", name)
	}
	r := makeRegistry()
	return driven{r}, r.Init(registry.Addrs(addresses...))
}

func (d driven) Register(text []byte, ttl time.Duration) error {
	var service registry.Service
	if err := json.Unmarshal(text, &service); err != nil {
		return err
	}
	return d.Registry.Register(&service, registry.RegisterTTL(ttl))
}

func (d driven) Deregister(text []byte) error {
	var service registry.Service
	if err := json.Unmarshal(text, &service); err != nil {
		return err
	}
	return d.Registry.Deregister(&service)
}

func (d driven) Get(name string) (interface{}, error) {
	return d.GetService(name)
}

func (d driven) List() (interface{}, error) {
	return d.ListServices()
}

func (d driven) Watch(name string) (program.Watcher, error) {
	w, err := d.Registry.Watch(registry.WatchService(name))
	return watching{w}, err
}

func (w watching) Next() (string, interface{}, error) {
	result, err := w.Watcher.Next()
	if err != nil {
		return "", nil, err
	}
	return result.Action, result.Service, nil
}

// Hello is what the service is asked and what it answers.
type Hello struct {
	Name string `json:"name"`
}

// Say is the service's handler.
type Say struct{}

// Hello tells who answers.
func (Say) Hello(_ context.Context, _, answer *Hello) error {
	answer.Name = strconv.Itoa(os.Getpid())
	return nil
}

func serve() error {
	service := micro.NewService(micro.Name("fleet.micro5"), micro.Version("1.0"))
	service.Init()
	if err := micro.RegisterHandler(service.Server(), new(Say)); err != nil {
		return err
	}
	return service.Run()
}

// call calls the service that CALLEE names, which go-micro selects a node for,
// each 20 ms until it is killed. It prints who answered, or "error" and why.
func call() error {
	service := micro.NewService(micro.Name("fleet.micro5.client"))
	service.Init()
	for range time.Tick(20 * time.Millisecond) {
		var answer Hello
		question := service.Client().NewRequest(os.Getenv("CALLEE"),
			"Say.Hello", &Hello{}, client.WithContentType("application/json"))
		err := service.Client().Call(context.Background(), question, &answer,
			client.WithRetries(0), client.WithRequestTimeout(time.Second))
		if err != nil {
			answer.Name = "error " + err.Error()
		}
		fmt.Println(strings.ReplaceAll(answer.Name, "\n", " "))
	}
	return nil
}

func main() {
	run := func() error { program.Drive(open); return nil }
	if len(os.Args) > 1 {
		known := map[string]func() error{"serve": serve, "call": call}
		if run = known[os.Args[1]]; run == nil {
			fmt.Fprintln(os.Stderr, "usage: fleet [serve|call ...]")
			os.Exit(1)
		}
		os.Args = append(os.Args[:1], os.Args[2:]...)
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
}
