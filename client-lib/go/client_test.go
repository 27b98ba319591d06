// SPDX-License-Identifier: Apache-2.0

package microreg_test

import (
	"context"
	"testing"
	"time"

	microreg "github.com/microreg/microreg/client-lib/go"
	"github.com/microreg/microreg/client-lib/go/internal/cluster"
)

// The JSON of go-micro's types.
type service struct {
	Name     string            `json:"name"`
	Version  string            `json:"version"`
	Metadata map[string]string `json:"metadata"`
	Nodes    []*node           `json:"nodes"`
}

type node struct {
	ID       string            `json:"id"`
	Address  string            `json:"address"`
	Metadata map[string]string `json:"metadata"`
}

var ctx = context.Background()

func TestThin(t *testing.T) {
	c := cluster.Start(t)
	client := microreg.New(microreg.Options{Addrs: c.Addrs(0), Log: func(s string) { t.Log(s) }})
	defer client.Close()
	w, err := client.Watch(ctx, "greeter")
	if err != nil {
		t.Fatal(err)
	}
	s := &service{Name: "greeter", Version: "1", Nodes: []*node{{ID: "g-1", Address: "10.0.0.1:80"}}}
	for i := 0; i < 3; i++ {
		if err := client.Register(ctx, s, 2*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	var got []*service
	if err := client.Get(ctx, "greeter", &got); err != nil {
		t.Fatal(err)
	}
	e, err := w.Next()
	t.Log(e.Action, e.Index, string(e.Service), err)
	e, err = w.Next()
	t.Log(e.Action, e.Index, string(e.Service), err)
	err = client.Get(ctx, "greeter", &got)
	if err != microreg.ErrNotFound {
		t.Fatal(err)
	}
	w.Stop()
	if _, err := w.Next(); err != microreg.ErrStopped {
		t.Fatal(err)
	}
}
