// SPDX-License-Identifier: Apache-2.0

package micro5_test

import (
	"context"
	"testing"
	"time"

	microreg "github.com/microreg/microreg/client-lib/go"
	"github.com/microreg/microreg/client-lib/go/internal/conformance"
	"github.com/microreg/microreg/client-lib/go/internal/greeter"
	"github.com/microreg/microreg/client-lib/go/micro5"
	micro "go-micro.dev/v5"
	"go-micro.dev/v5/client"
	"go-micro.dev/v5/cmd"
	"go-micro.dev/v5/registry"
	"go-micro.dev/v5/registry/cache"
	"go-micro.dev/v5/selector"
)

// bridge is a registry of go-micro v5 as one of the conformance tests; all
// its calls carry the context.
type bridge struct {
	registry.Registry
	ctx context.Context
}

func (b bridge) Init(addrs []string) error {
	return b.Registry.Init(registry.Addrs(addrs...))
}

func (b bridge) Addrs() []string { return b.Options().Addrs }

func (b bridge) Register(s *conformance.Service, ttl time.Duration) error {
	return b.Registry.Register(conformance.Convert[*registry.Service](s),
		registry.RegisterTTL(ttl), registry.RegisterContext(b.ctx))
}

func (b bridge) Deregister(s *conformance.Service) error {
	return b.Registry.Deregister(conformance.Convert[*registry.Service](s),
		registry.DeregisterContext(b.ctx))
}

func (b bridge) GetService(name string) ([]*conformance.Service, error) {
	services, err := b.Registry.GetService(name, registry.GetContext(b.ctx))
	return conformance.Convert[[]*conformance.Service](services), err
}

func (b bridge) ListServices() ([]*conformance.Service, error) {
	services, err := b.Registry.ListServices(registry.ListContext(b.ctx))
	return conformance.Convert[[]*conformance.Service](services), err
}

func (b bridge) Watch(name string) (conformance.Watcher, error) {
	w, err := b.Registry.Watch(registry.WatchService(name), registry.WatchContext(b.ctx))
	return watcher{w}, err
}

type watcher struct{ registry.Watcher }

func (w watcher) Next() (*conformance.Result, error) {
	result, err := w.Watcher.Next()
	if err != nil {
		return nil, err
	}
	return conformance.Convert[*conformance.Result](result), nil
}

func open(addrs []string, settings ...microreg.Setting) conformance.Registry {
	return bridge{Registry: micro5.NewRegistry(registry.Addrs(addrs...), micro5.With(settings...))}
}

func byName() conformance.Registry {
	return bridge{Registry: cmd.DefaultRegistries["microreg"]()}
}

func withContext(r conformance.Registry, ctx context.Context) conformance.Registry {
	return bridge{r.(bridge).Registry, ctx}
}

func newCache(r conformance.Registry, ttl time.Duration) (conformance.Registry, func()) {
	c := cache.New(r.(bridge).Registry, cache.WithTTL(ttl))
	return bridge{Registry: c}, c.Stop
}

func newSelector(r conformance.Registry) func(string) (string, error) {
	s := selector.NewSelector(selector.Registry(r.(bridge).Registry))
	return func(service string) (string, error) {
		next, err := s.Select(service)
		if err != nil {
			return "", err
		}
		node, err := next()
		if err != nil {
			return "", err
		}
		return node.Id, nil
	}
}

func TestConformance(t *testing.T) {
	conformance.Run(t, conformance.Adaptor{
		New:               open,
		ByName:            byName,
		NewCache:          newCache,
		NewSelector:       newSelector,
		WithContext:       withContext,
		ErrNotFound:       registry.ErrNotFound,
		ErrWatcherStopped: registry.ErrWatcherStopped,
	})
}

// ---- the greeter ------------------------------------------------------------

func serve(service string) {
	s := micro.NewService(micro.Name(service))
	s.Init()
	if err := s.Server().Handle(s.Server().NewHandler(new(greeter.Say))); err != nil {
		panic(err)
	}
	if err := s.Run(); err != nil {
		panic(err)
	}
}

func caller(addrs []string, via microreg.Transport, service string,
	onCall func(address string)) func(context.Context) error {
	r := micro5.NewRegistry(registry.Addrs(addrs...), micro5.With(microreg.Via(via)))
	c := client.NewClient(client.Registry(r), client.Retries(0),
		client.Selector(selector.NewSelector(selector.Registry(r))),
		client.WrapCall(func(next client.CallFunc) client.CallFunc {
			return func(ctx context.Context, node *registry.Node, req client.Request,
				rsp interface{}, opts client.CallOptions) error {
				onCall(node.Address)
				return next(ctx, node, req, rsp, opts)
			}
		}))
	return func(ctx context.Context) error {
		req := c.NewRequest(service, "Say.Hello", &greeter.Request{Name: "John"},
			client.WithContentType("application/json"))
		return c.Call(ctx, req, &greeter.Response{})
	}
}

func TestMain(m *testing.M) {
	greeter.Main(m, greeter.Kit{Serve: serve, Caller: caller})
}

// The client stops calling a server that was killed within TTL + 1 s.
func TestGreeterIsKilled(t *testing.T) {
	greeter.Run(t, greeter.Kit{Serve: serve, Caller: caller})
}
