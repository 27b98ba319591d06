// SPDX-License-Identifier: Apache-2.0

//go:build microreg_never

package microreg

// `go mod vendor` copies the folders of packages only. So that the C sources
// come along, their folder is a package, which is imported here and never built.
import _ "github.com/microreg/microreg/client-lib"
