// SPDX-License-Identifier: Apache-2.0

package microreg

import "errors"

// What a call can fail with, to be told apart by errors.Is. The text of the
// error that a call returns says more: it names each address that was tried.
var (
	// ErrNotFound: no healthy node of such a service is registered.
	ErrNotFound = errors.New("service not found")
	// ErrStopped: the watcher was stopped, or its client closed.
	ErrStopped = errors.New("watcher stopped")
	// ErrInvalid: the registry refuses what it was given, or an option makes
	// no sense.
	ErrInvalid = errors.New("invalid")
	// ErrDenied: the token or the certificate was not accepted.
	ErrDenied = errors.New("denied")
	// ErrFenced: a newer incarnation has registered the same node.
	ErrFenced = errors.New("fenced")
	// ErrUnavailable: no server was reached, or none could answer in time. A
	// registration may have been done.
	ErrUnavailable = errors.New("registry unavailable")
)

// failure is an error of a kind, with a sentence for people.
type failure struct {
	kind error
	text string
}

func (f *failure) Error() string { return "microreg: " + f.text }
func (f *failure) Unwrap() error { return f.kind }
