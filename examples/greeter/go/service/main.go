// SPDX-License-Identifier: Apache-2.0

// The greeter as a go-micro service. All that is special about it is the blank
// import, which makes --registry=microreg work.
package main

import (
	"context"
	"log"

	_ "github.com/microreg/microreg/client-lib/go/micro5"
	"go-micro.dev/v5"
)

// Request is whom to greet.
type Request struct {
	Name string `json:"name"`
}

// Response is the greeting.
type Response struct {
	Greeting string `json:"greeting"`
}

// Say is the handler.
type Say struct{}

// Hello greets.
func (Say) Hello(_ context.Context, request *Request, response *Response) error {
	response.Greeting = "Hello " + request.Name + ", from Go"
	return nil
}

func main() {
	service := micro.NewService(micro.Name("greeter"), micro.Version("go"))
	service.Init()
	if err := micro.RegisterHandler(service.Server(), new(Say)); err != nil {
		log.Fatal(err)
	}
	if err := service.Run(); err != nil {
		log.Fatal(err)
	}
}
