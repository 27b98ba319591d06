// SPDX-License-Identifier: Apache-2.0

package microreg_test

import (
	"context"
	"testing"
	"time"

	microreg "github.com/microreg/microreg/client-lib/go"
	"github.com/microreg/microreg/client-lib/go/internal/conformance"
)

// bare is the core as a registry of the conformance tests: they run without
// any module of go-micro, too.
type bare struct {
	client *microreg.Client
	ctx    context.Context
}

func (b bare) Init(addrs []string) error {
	options := b.client.Options()
	options.Addrs = addrs
	return b.client.Configure(options)
}
func (b bare) Addrs() []string { return b.client.Options().Addrs }
func (b bare) Register(s *conformance.Service, ttl time.Duration) error {
	return b.client.Register(b.ctx, s, ttl)
}
func (b bare) Deregister(s *conformance.Service) error { return b.client.Deregister(b.ctx, s) }
func (b bare) GetService(name string) (out []*conformance.Service, err error) {
	err = b.client.Get(b.ctx, name, &out)
	return out, err
}
func (b bare) ListServices() (out []*conformance.Service, err error) {
	err = b.client.List(b.ctx, &out)
	return out, err
}
func (b bare) Watch(name string) (conformance.Watcher, error) {
	w, err := b.client.Watch(b.ctx, name)
	return bareWatcher{w}, err
}
func (b bare) String() string { return "microreg" }

type bareWatcher struct{ *microreg.Watcher }

func (w bareWatcher) Next() (*conformance.Result, error) {
	event, err := w.Watcher.Next()
	if err != nil {
		return nil, err
	}
	result := &conformance.Result{Action: event.Action}
	return result, event.Decode(&result.Service)
}

func open(addrs []string, settings ...microreg.Setting) conformance.Registry {
	options := microreg.Options{Addrs: addrs}
	for _, set := range settings {
		set(&options)
	}
	return bare{microreg.New(options), ctx}
}

func TestConformance(t *testing.T) {
	conformance.Run(t, conformance.Adaptor{
		New:    open,
		ByName: func() conformance.Registry { return open(nil) },
		WithContext: func(r conformance.Registry, ctx context.Context) conformance.Registry {
			return bare{r.(bare).client, ctx}
		},
		ErrNotFound:       microreg.ErrNotFound,
		ErrWatcherStopped: microreg.ErrStopped,
	})
}
