// SPDX-License-Identifier: Apache-2.0

//go:build cgo && linux && !microreg_purego

package microreg

/*
#cgo !libmicroreg CFLAGS: -std=c11 -D_GNU_SOURCE
#cgo !libmicroreg LDFLAGS: -lcurl -lpthread
#cgo libmicroreg CFLAGS: -DMICROREG_SYSTEM=1
#cgo libmicroreg pkg-config: microreg
#include <stdlib.h>
#include "wire_c.h"

typedef const char const_char;
*/
import "C"

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"runtime/cgo"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// HasC says whether the C transport is compiled in.
const HasC = true

func transportExists(o Options) error {
	if o.Transport == C && o.TLSConfig != nil {
		return &failure{ErrInvalid, "a *tls.Config needs the NetHTTP transport"}
	}
	return nil
}

func newTransport(o Options, servers []endpoint) (transport, error) {
	if err := transportExists(o); err != nil {
		return nil, err
	}
	if o.Transport == NetHTTP || o.TLSConfig != nil {
		return newHTTPWire(o, servers)
	}
	return newCWire(o, servers)
}

// cWire is the transport on libmicroreg.
type cWire struct {
	mu      sync.RWMutex // Held for reading by calls, for writing by close.
	handle  *C.struct_microreg
	log     cgo.Handle // Or 0.
	timeout time.Duration
	places  places
	watchMu sync.Mutex // Over what follows.
	watches map[*cWatch]struct{}
	watched map[string]int // How many watches a service has.
}

func newCWire(o Options, servers []endpoint) (*cWire, error) {
	w := &cWire{
		timeout: o.Timeout,
		places:  newPlaces(),
		watches: map[*cWatch]struct{}{},
		watched: map[string]int{},
	}
	options := C.mrgo_options()
	texts := []*C.char{}
	text := func(s string) *C.const_char {
		if s == "" {
			return nil
		}
		c := C.CString(s)
		texts = append(texts, c)
		return c
	}
	defer func() {
		for _, c := range texts {
			C.free(unsafe.Pointer(c))
		}
	}()
	options.addresses = text(joined(servers))
	options.timeout_ms = C.int(o.Timeout.Milliseconds())
	options.progress_ms = C.int(o.Progress.Milliseconds())
	options.secure = C.bool(o.Secure)
	options.insecure = C.bool(o.Insecure)
	options.ca_file = text(o.CAFile)
	options.cert_file = text(o.CertFile)
	options.key_file = text(o.KeyFile)
	options.server_name = text(o.ServerName)
	options.token = text(o.Token)
	options.incarnation = C.uint64_t(o.Incarnation)
	if o.Log != nil {
		w.log = cgo.NewHandle(o.Log)
		C.mrgo_log_to(&options, C.uintptr_t(w.log))
	}
	var e C.struct_microreg_error
	if rc := C.microreg_open(&options, &w.handle, &e); rc != C.MICROREG_OK {
		w.letGo()
		return nil, cFailure(rc, &e)
	}
	return w, nil
}

//export mrgoLog
func mrgoLog(handle C.uintptr_t, text *C.const_char) {
	if log, ok := cgo.Handle(handle).Value().(func(string)); ok {
		log(C.GoString(text))
	}
}

func (w *cWire) letGo() {
	if w.log != 0 {
		w.log.Delete()
		w.log = 0
	}
}

// joined is the addresses as the library takes them.
func joined(servers []endpoint) string {
	var out []string
	for _, server := range servers {
		scheme := "http://"
		if server.secure {
			scheme = "https://"
		}
		out = append(out, scheme+server.hostPort)
	}
	return strings.Join(out, ",")
}

// cFailure makes an error of what a call says.
func cFailure(rc C.int, e *C.struct_microreg_error) error {
	kind := ErrUnavailable
	switch rc {
	case C.MICROREG_OK:
		return nil
	case C.MICROREG_E_NOTFOUND:
		return ErrNotFound
	case C.MICROREG_E_STOPPED:
		return ErrStopped
	case C.MICROREG_E_INVALID:
		kind = ErrInvalid
	case C.MICROREG_E_DENIED:
		kind = ErrDenied
	case C.MICROREG_E_FENCED, C.MICROREG_E_REFUSED:
		kind = ErrFenced
	}
	text := C.GoString(&e.text[0])
	if text == "" {
		text = C.GoString(C.microreg_strerror(rc))
	}
	return &failure{kind, text}
}

// with runs what does not wait for the registry.
func (w *cWire) with(call func(*C.struct_microreg) error) error {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.handle == nil {
		return &failure{ErrStopped, "the client is closed"}
	}
	return call(w.handle)
}

// do runs a call that asks the registry. The library has the client's deadline;
// who gives a context that can end before is not kept waiting.
func (w *cWire) do(ctx context.Context, call func(*C.struct_microreg) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case w.places <- struct{}{}:
	default:
		// The wait for a place is part of the call's time.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, w.timeout, errBusy)
		defer cancel()
		select {
		case w.places <- struct{}{}:
		case <-ctx.Done():
			return whyEnded(ctx)
		}
	}
	placed := func() error {
		defer w.places.leave()
		return w.with(call)
	}
	if ctx.Done() == nil {
		return placed()
	}
	done := make(chan error, 1)
	go func() { done <- placed() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return whyEnded(ctx)
	}
}

func whyEnded(ctx context.Context) error {
	if errors.Is(context.Cause(ctx), errBusy) {
		return errBusy
	}
	return ctx.Err()
}

func (w *cWire) retarget(_ Options, servers []endpoint) error {
	addresses := C.CString(joined(servers))
	defer C.free(unsafe.Pointer(addresses))
	return w.with(func(handle *C.struct_microreg) error {
		var e C.struct_microreg_error
		return cFailure(C.microreg_set_addresses(handle, addresses, &e), &e)
	})
}

func (w *cWire) close() {
	w.watchMu.Lock()
	watches := w.watches
	w.watches, w.watched = nil, nil
	w.watchMu.Unlock()
	for watch := range watches {
		watch.stop()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	C.microreg_close(w.handle)
	w.handle = nil
	w.letGo()
}

// ---- the calls --------------------------------------------------------------

// bytesOf is the address of the bytes, for the time of one call.
func bytesOf(text []byte) (*C.const_char, C.size_t) {
	return (*C.const_char)(unsafe.Pointer(unsafe.SliceData(text))), C.size_t(len(text))
}

// taken copies what the library returned, and frees it.
func taken(text *C.char, length C.size_t) []byte {
	defer C.microreg_free(unsafe.Pointer(text))
	return C.GoBytes(unsafe.Pointer(text), C.int(length))
}

func (w *cWire) register(ctx context.Context, service []byte, ttl time.Duration) error {
	return w.do(ctx, func(handle *C.struct_microreg) error {
		var e C.struct_microreg_error
		text, length := bytesOf(service)
		return cFailure(C.microreg_register_json(handle, text, length,
			C.int64_t(ttl.Milliseconds()), 0, &e), &e)
	})
}

func (w *cWire) deregister(ctx context.Context, service []byte) error {
	return w.do(ctx, func(handle *C.struct_microreg) error {
		var e C.struct_microreg_error
		text, length := bytesOf(service)
		return cFailure(C.microreg_deregister_json(handle, text, length, &e), &e)
	})
}

func (r Reads) flags() C.uint {
	switch r {
	case Stale:
		return C.MICROREG_STALE
	case Consistent:
		return C.MICROREG_CONSISTENT
	}
	return 0
}

func (w *cWire) get(ctx context.Context, name string, reads Reads,
	fromWatch bool) ([]byte, error) {
	flags := reads.flags()
	if fromWatch && reads != Consistent && w.isWatched(name) {
		flags |= C.MICROREG_WATCHED
	}
	var out []byte
	err := w.do(ctx, func(handle *C.struct_microreg) error {
		cName := C.CString(name)
		defer C.free(unsafe.Pointer(cName))
		var text *C.char
		var length C.size_t
		var e C.struct_microreg_error
		rc := C.microreg_get_service_json(handle, cName, flags, &text, &length, &e)
		if rc != C.MICROREG_OK {
			return cFailure(rc, &e)
		}
		out = taken(text, length)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (w *cWire) list(ctx context.Context, reads Reads) ([]byte, error) {
	var out []byte
	err := w.do(ctx, func(handle *C.struct_microreg) error {
		var text *C.char
		var length C.size_t
		var e C.struct_microreg_error
		rc := C.microreg_list_services_json(handle, reads.flags(), &text, &length, &e)
		if rc != C.MICROREG_OK {
			return cFailure(rc, &e)
		}
		out = taken(text, length)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// ---- watches ----------------------------------------------------------------

// A cWatch is a watch of the library. Its descriptor is waited for by Go's
// netpoller, so a waiting Next is a goroutine and no thread.
type cWatch struct {
	wire   *cWire
	name   string
	poll   *os.File
	conn   syscall.RawConn
	mu     sync.Mutex // Held by the reader; over handle.
	handle *C.struct_microreg_watch
}

// isWatched says whether a watch of this client is about the service alone.
func (w *cWire) isWatched(name string) bool {
	w.watchMu.Lock()
	defer w.watchMu.Unlock()
	return w.watched[name] > 0
}

// add notes a watch; false: the client was closed meanwhile.
func (w *cWire) add(watch *cWatch) bool {
	w.watchMu.Lock()
	defer w.watchMu.Unlock()
	if w.watches == nil {
		return false
	}
	w.watches[watch] = struct{}{}
	w.watched[watch.name]++
	return true
}

// remove forgets a watch, if it is there.
func (w *cWire) remove(watch *cWatch) {
	w.watchMu.Lock()
	defer w.watchMu.Unlock()
	if _, ok := w.watches[watch]; !ok {
		return
	}
	delete(w.watches, watch)
	if w.watched[watch.name]--; w.watched[watch.name] == 0 {
		delete(w.watched, watch.name)
	}
}

func (w *cWire) watch(name string) (source, error) {
	watch := &cWatch{wire: w, name: name}
	err := w.with(func(handle *C.struct_microreg) error {
		var cName *C.char
		if name != "" {
			cName = C.CString(name)
			defer C.free(unsafe.Pointer(cName))
		}
		var e C.struct_microreg_error
		rc := C.microreg_watch_open(handle, cName, 0, &watch.handle, &e)
		if rc != C.MICROREG_OK {
			return cFailure(rc, &e)
		}
		return watch.listen()
	})
	if err != nil {
		return nil, err
	}
	if !w.add(watch) {
		watch.stop()
	}
	return watch, nil
}

// listen gives the descriptor to the netpoller: a copy, because it is closed
// there.
func (w *cWatch) listen() error {
	fd := C.microreg_watch_fd(w.handle)
	own, err := -1, error(syscall.EMFILE)
	if fd >= 0 {
		own, err = dupCloexec(int(fd))
	}
	if err == nil {
		w.poll = os.NewFile(uintptr(own), "microreg watch")
		w.conn, err = w.poll.SyscallConn()
	}
	if err != nil {
		C.microreg_watch_close(w.handle)
		return &failure{ErrUnavailable, "watch: " + err.Error()}
	}
	return nil
}

func dupCloexec(fd int) (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	own, err := syscall.Dup(fd)
	if err == nil {
		syscall.CloseOnExec(own)
	}
	return own, err
}

func (w *cWatch) next() (Event, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.handle == nil {
		return Event{}, ErrStopped
	}
	var text *C.char
	var length C.size_t
	var e C.struct_microreg_error
	rc := C.int(C.MICROREG_E_STOPPED)
	err := w.conn.Read(func(uintptr) bool {
		rc = C.microreg_watch_next_json(w.handle, 0, &text, &length, &e)
		return rc != C.MICROREG_E_AGAIN
	})
	if err != nil {
		return Event{}, ErrStopped // The descriptor is closed by stop().
	}
	if rc != C.MICROREG_OK {
		return Event{}, cFailure(rc, &e)
	}
	var event Event
	err = json.Unmarshal(taken(text, length), &event)
	return event, err
}

func (w *cWatch) stop() {
	w.wire.remove(w)
	_ = w.poll.Close() // Wakes the reader; closing twice is an error we ignore.
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.handle != nil {
		C.microreg_watch_close(w.handle)
		w.handle = nil
	}
}
