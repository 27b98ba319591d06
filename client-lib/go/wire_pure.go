// SPDX-License-Identifier: Apache-2.0

//go:build !cgo || !linux || microreg_purego

package microreg

// HasC says whether the C transport is compiled in.
const HasC = false

func transportExists(o Options) error {
	if o.Transport == C {
		return &failure{ErrInvalid, "this program was built without the C transport"}
	}
	return nil
}

func newTransport(o Options, servers []endpoint) (transport, error) {
	if err := transportExists(o); err != nil {
		return nil, err
	}
	return newHTTPWire(o, servers)
}
