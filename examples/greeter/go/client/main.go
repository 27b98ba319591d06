// SPDX-License-Identifier: Apache-2.0

// A go-micro client that lists the greeters and calls each of them, and then the
// one that go-micro selects.
package main

import (
	"context"
	"fmt"
	"log"

	_ "github.com/microreg/microreg/client-lib/go/micro5"
	"go-micro.dev/v5"
	"go-micro.dev/v5/client"
)

type request struct {
	Name string `json:"name"`
}

type response struct {
	Greeting string `json:"greeting"`
}

// call greets: the selected greeter, or the one that an option names.
func call(c client.Client, options ...client.CallOption) (string, error) {
	var answer response
	question := c.NewRequest("greeter", "Say.Hello", &request{Name: "John"},
		client.WithContentType("application/json"))
	err := c.Call(context.Background(), question, &answer, options...)
	return answer.Greeting, err
}

func main() {
	service := micro.NewService(micro.Name("greeter.client"))
	service.Init()
	services, err := service.Options().Registry.GetService("greeter")
	if err != nil {
		log.Fatalf("greeter: %v", err)
	}
	allAnswer := true
	for _, s := range services {
		for _, node := range s.Nodes {
			greeting, err := call(service.Client(),
				client.WithAddress(node.Address))
			if err != nil {
				greeting, allAnswer = err.Error(), false
			}
			fmt.Printf("%-21s %s\n", node.Address, greeting)
		}
	}
	greeting, err := call(service.Client())
	if err != nil {
		log.Fatalf("the greeter that go-micro selects: %v", err)
	}
	fmt.Printf("%-21s %s\n", "selected", greeting)
	if !allAnswer {
		log.Fatal("not every greeter answers")
	}
}
