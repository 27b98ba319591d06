// SPDX-License-Identifier: Apache-2.0

// Package micro6 makes microreg a registry of go-micro v6. It is enough to import
// it:
//
//	import _ "github.com/microreg/microreg/client-lib/go/micro6"
//
// Then the program takes --registry=microreg --registry_address=host,host2 and
// MICRO_REGISTRY=microreg. A program that chooses for itself uses NewRegistry.
package micro6

import (
	"context"
	"errors"
	"sync"

	microreg "github.com/microreg/microreg/client-lib/go"
	"go-micro.dev/v6/cmd"
	"go-micro.dev/v6/registry"
)

func init() {
	cmd.DefaultRegistries["microreg"] = NewRegistry
}

// With sets what go-micro has no option for: a token, certificates, how fresh
// answers must be.
//
//	micro6.NewRegistry(micro6.With(microreg.Token("...")))
func With(settings ...microreg.Setting) registry.Option {
	return func(o *registry.Options) {
		if o.Context == nil {
			o.Context = context.Background()
		}
		before, _ := o.Context.Value(settingsKey{}).([]microreg.Setting)
		all := append(append([]microreg.Setting(nil), before...), settings...)
		o.Context = context.WithValue(o.Context, settingsKey{}, all)
	}
}

type settingsKey struct{}

// backend is a registry.Registry.
type backend struct {
	mu      sync.Mutex // Over options.
	options registry.Options
	client  *microreg.Client
}

// NewRegistry returns the registry. It dials nothing and does not fail: what is
// wrong with its options is an error of Init and of the calls.
func NewRegistry(options ...registry.Option) registry.Registry {
	r := &backend{options: *registry.NewOptions(options...)}
	r.client = microreg.New(coreOptions(r.options))
	return r
}

// coreOptions are the options as the core has them.
func coreOptions(o registry.Options) microreg.Options {
	core := microreg.Options{
		Addrs:     o.Addrs,
		Timeout:   o.Timeout,
		Secure:    o.Secure || o.TLSConfig != nil,
		TLSConfig: o.TLSConfig,
	}
	if o.Context != nil {
		settings, _ := o.Context.Value(settingsKey{}).([]microreg.Setting)
		for _, set := range settings {
			set(&core)
		}
	}
	return core
}

// Init changes the options, also of watchers that are open.
func (r *backend) Init(options ...registry.Option) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	changed := r.options
	for _, option := range options {
		option(&changed)
	}
	if err := r.client.Configure(coreOptions(changed)); err != nil {
		return err
	}
	r.options = changed
	return nil
}

// Options returns the options as they were given.
func (r *backend) Options() registry.Options {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.options
}

// Register registers all nodes of a service, or renews them.
func (r *backend) Register(s *registry.Service, options ...registry.RegisterOption) error {
	var o registry.RegisterOptions
	for _, option := range options {
		option(&o)
	}
	return r.client.Register(o.Context, s, o.TTL)
}

// Deregister removes the nodes of a service.
func (r *backend) Deregister(s *registry.Service, options ...registry.DeregisterOption) error {
	var o registry.DeregisterOptions
	for _, option := range options {
		option(&o)
	}
	return r.client.Deregister(o.Context, s)
}

// GetService returns all versions of a service with their healthy nodes.
// registry.ErrNotFound: there are none.
func (r *backend) GetService(name string, options ...registry.GetOption) ([]*registry.Service, error) {
	var o registry.GetOptions
	for _, option := range options {
		option(&o)
	}
	var services []*registry.Service
	if err := r.client.Get(o.Context, name, &services); err != nil {
		return nil, translated(err)
	}
	return services, nil
}

// ListServices returns all services, one element for each name and version.
func (r *backend) ListServices(options ...registry.ListOption) ([]*registry.Service, error) {
	var o registry.ListOptions
	for _, option := range options {
		option(&o)
	}
	var services []*registry.Service
	if err := r.client.List(o.Context, &services); err != nil {
		return nil, translated(err)
	}
	return services, nil
}

// Watch watches one service or all of them: first what there is, as "create",
// then each change, with the node as it is, or was.
func (r *backend) Watch(options ...registry.WatchOption) (registry.Watcher, error) {
	var o registry.WatchOptions
	for _, option := range options {
		option(&o)
	}
	w, err := r.client.Watch(o.Context, o.Service)
	if err != nil {
		return nil, translated(err)
	}
	return &watcher{w}, nil
}

// String is the name for --registry.
func (r *backend) String() string { return "microreg" }

// watcher is a registry.Watcher.
type watcher struct {
	*microreg.Watcher
}

// Next waits for a change. registry.ErrWatcherStopped: there will be none.
func (w *watcher) Next() (*registry.Result, error) {
	event, err := w.Watcher.Next()
	if err != nil {
		return nil, translated(err)
	}
	var s registry.Service
	if err := event.Decode(&s); err != nil {
		return nil, err
	}
	return &registry.Result{Action: event.Action, Service: &s}, nil
}

// translated returns go-micro's own variables, which many compare with ==.
func translated(err error) error {
	switch {
	case errors.Is(err, microreg.ErrNotFound):
		return registry.ErrNotFound
	case errors.Is(err, microreg.ErrStopped):
		return registry.ErrWatcherStopped
	}
	return err
}
