// SPDX-License-Identifier: Apache-2.0

//go:build microreg_never

// Package sources is the folder of the C sources, for `go mod vendor`.
package sources
