// SPDX-License-Identifier: Apache-2.0

// Package microreg finds, registers and watches services in a microreg
// registry. It is the common part of the go-micro backends:
//
//	import _ "github.com/microreg/microreg/client-lib/go/micro5"
//
// makes --registry=microreg work in a program that uses go-micro v5, and
// likewise micro6, micro4 and micro2. A program without go-micro can use this
// package alone. Services cross it as the JSON of go-micro's registry.Service,
// which is the registry's wire format.
//
// # Transports
//
// On Linux, with cgo, the C library libmicroreg does the work. Its sources are part of this
// module and are compiled with the program, so a C compiler and libcurl's
// headers are all that is needed; the build tag libmicroreg takes the installed
// library instead, by pkg-config. On other systems, without cgo (CGO_ENABLED=0),
// with the build tag microreg_purego, and whenever a *tls.Config is given, net/http
// does it. Both behave alike and are tested alike.
//
// # What holds
//
//   - Nothing dials before the first call, and a server that cannot be reached is
//     an error of that call, after at most Options.Timeout.
//   - A server that does not answer is left for the next address in less than a
//     second, and asked again later. Names are resolved at each connection.
//   - All watchers of a client share one connection. It goes on at any other
//     server where it stopped, so a watcher sees neither loss nor repetition,
//     and no error when a server dies or the cluster elects another leader.
//   - No watcher holds a thread of the operating system.
package microreg
