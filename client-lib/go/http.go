// SPDX-License-Identifier: Apache-2.0

package microreg

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// patience is how long one server is waited for when there are others. It
	// doubles with each round, for answers that take their time.
	patience = 500 * time.Millisecond
	// refusals ends a call that met nothing but refused connections for so many
	// rounds: no server will come in time.
	refusals = 4
	// maxAnswer is the longest answer.
	maxAnswer = 256 << 20
)

// httpWire is the transport on net/http.
type httpWire struct {
	client   *http.Client
	peers    peers
	mu       sync.Mutex // Over options.
	options  Options
	leases   leases
	places   places
	hub      hub
	closing  context.Context // Ends the streams.
	shutdown context.CancelFunc
}

func newHTTPWire(options Options, servers []endpoint) (*httpWire, error) {
	config, err := tlsConfig(options)
	if err != nil {
		return nil, err
	}
	h := &httpWire{options: options, places: newPlaces()}
	h.client = &http.Client{
		Transport: &http.Transport{
			DialContext: (&net.Dialer{
				Timeout:   options.Timeout,
				KeepAlive: 15 * time.Second,
			}).DialContext,
			TLSClientConfig:     config,
			DisableCompression:  true,
			MaxIdleConnsPerHost: maxCalls,
			IdleConnTimeout:     90 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
	h.peers.set(servers)
	h.closing, h.shutdown = context.WithCancel(context.Background())
	h.hub.init(h)
	return h, nil
}

func tlsConfig(o Options) (*tls.Config, error) {
	if o.TLSConfig != nil {
		return o.TLSConfig.Clone(), nil
	}
	config := &tls.Config{
		ServerName:         o.ServerName,
		InsecureSkipVerify: o.Insecure, //nolint:gosec // The user asks for it.
		MinVersion:         tls.VersionTLS12,
	}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, &failure{ErrInvalid, err.Error()}
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, &failure{ErrInvalid, o.CAFile + ": no certificate in it"}
		}
	}
	if o.CertFile != "" || o.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, &failure{ErrInvalid, err.Error()}
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

func (h *httpWire) close() {
	h.shutdown()
	h.hub.close()
	h.client.CloseIdleConnections()
}

func (h *httpWire) retarget(options Options, servers []endpoint) error {
	h.mu.Lock()
	h.options = options
	h.mu.Unlock()
	h.peers.set(servers)
	h.leases.forgetAll()
	h.hub.restart()
	h.client.CloseIdleConnections()
	return nil
}

func (h *httpWire) current() Options {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.options
}

// ---- requests ---------------------------------------------------------------

// An answer is what a server said.
type answer struct {
	status int
	index  uint64
	body   []byte
}

// request makes a request for one server.
func (h *httpWire) request(ctx context.Context, to *peer, method, target string,
	body []byte) (*http.Request, error) {
	scheme := "http://"
	if to.secure {
		scheme = "https://"
	}
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, scheme+to.hostPort+target, reader)
	if err != nil {
		return nil, &failure{ErrInvalid, err.Error()}
	}
	req.Header.Set("User-Agent", "microreg-go")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token := h.current().Token; token != "" {
		req.Header.Set("X-Consul-Token", token)
	}
	return req, nil
}

// attempt asks one server.
func (h *httpWire) attempt(ctx context.Context, to *peer, method, target string,
	body []byte) (answer, error) {
	req, err := h.request(ctx, to, method, target, body)
	if err != nil {
		return answer{}, err
	}
	response, err := h.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err == nil && len(text) > maxAnswer {
		err = errors.New("the answer is too long")
	}
	index, _ := strconv.ParseUint(response.Header.Get("X-Microreg-Index"), 10, 64)
	return answer{response.StatusCode, index, text}, err
}

// isFinal says whether another server would say the same.
func isFinal(status int) bool {
	return status >= 200 && status < 500 && status != http.StatusTooManyRequests
}

// call asks the servers in turn until one has an answer or the time is over.
func (h *httpWire) call(ctx context.Context, method, target string,
	body []byte) (answer, error) {
	select {
	case h.places <- struct{}{}:
		defer h.places.leave()
	case <-ctx.Done():
		return answer{}, &failure{errors.Join(ErrUnavailable, ctx.Err()), errBusy.text}
	}
	tried := &trail{what: method + " " + strings.SplitN(target, "?", 2)[0]}
	for round := 0; ; round++ {
		refused := true
		for _, to := range h.peers.order() {
			one, cancel := h.patient(ctx, round)
			got, err := h.attempt(one, to, method, target, body)
			cancel()
			if err == nil && got.status == http.StatusOK && !isFor(method, got.body) {
				err = errors.New("answers 200, but not as a registry: is this microreg?")
			}
			if err == nil && isFinal(got.status) {
				h.peers.succeeded(to)
				return got, nil
			}
			if ctx.Err() == nil || err == nil {
				h.peers.failed(to)
			}
			tried.add(to, got, err)
			refused = refused && isRefused(err)
			if err := ctx.Err(); err != nil {
				return answer{}, tried.failure(err)
			}
		}
		if refused && round+1 >= refusals {
			return answer{}, tried.failure(nil)
		}
		if err := pause(ctx, round); err != nil {
			return answer{}, tried.failure(err)
		}
	}
}

// isFor says whether a body begins as the registry's does: reads are answered by
// an array, all else by an object.
func isFor(method string, body []byte) bool {
	text := bytes.TrimLeft(body, " \t\r\n")
	if method == http.MethodGet {
		return bytes.HasPrefix(text, []byte("["))
	}
	return bytes.HasPrefix(text, []byte("{"))
}

// patient bounds one attempt when there is another server to ask.
func (h *httpWire) patient(ctx context.Context, round int) (context.Context,
	context.CancelFunc) {
	h.peers.mu.Lock()
	alone := len(h.peers.list) == 1
	h.peers.mu.Unlock()
	if alone {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, patience<<min(round, 10))
}

func isRefused(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// pause waits before the next round: 25 ms, 50 ms, ... 400 ms.
func pause(ctx context.Context, round int) error {
	sleep(ctx, 25*time.Millisecond<<min(round, 4))
	return ctx.Err()
}

// A trail is what became of each server in its last attempt.
type trail struct {
	what  string
	order []string
	last  map[string]string
}

func (t *trail) add(to *peer, got answer, err error) {
	if t.last == nil {
		t.last = map[string]string{}
	}
	if _, known := t.last[to.hostPort]; !known {
		t.order = append(t.order, to.hostPort)
	}
	var deep *url.Error
	switch {
	case errors.As(err, &deep) && deep.Timeout():
		t.last[to.hostPort] = "no answer in time"
	case errors.As(err, &deep):
		t.last[to.hostPort] = deep.Err.Error()
	case err != nil:
		t.last[to.hostPort] = err.Error()
	default:
		t.last[to.hostPort] = sentence(got)
	}
}

// failure is the error of a call that no server answered; why may be nil.
func (t *trail) failure(why error) error {
	parts := make([]string, len(t.order))
	for i, name := range t.order {
		parts[i] = name + ": " + t.last[name]
	}
	f := &failure{ErrUnavailable, t.what + ": " + strings.Join(parts, "; ")}
	if errors.Is(why, context.Canceled) || errors.Is(why, context.DeadlineExceeded) {
		return &failure{errors.Join(ErrUnavailable, why), f.text}
	}
	return f
}

// sentence is what a server said about a request that it did not carry out.
func sentence(got answer) string {
	text := strings.TrimSpace(string(got.body[:min(len(got.body), 500)]))
	if text == "" {
		text = http.StatusText(got.status)
	}
	return fmt.Sprintf("%d %s", got.status, text)
}

// refusal is the error of an answer that is not 200, or nil.
func refusal(what string, got answer) error {
	kind := ErrUnavailable
	switch got.status {
	case http.StatusOK:
		return nil
	case http.StatusUnauthorized, http.StatusForbidden:
		kind = ErrDenied
	case http.StatusConflict:
		kind = ErrFenced
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge,
		http.StatusRequestURITooLong:
		kind = ErrInvalid
	}
	return &failure{kind, what + ": " + sentence(got)}
}

// ---- the calls --------------------------------------------------------------

// bounded returns a context that ends with a call's deadline.
func (h *httpWire) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, h.current().Timeout)
}

func (h *httpWire) incarnation() string {
	if number := h.current().Incarnation; number != 0 {
		return "&incarnation=" + strconv.FormatUint(number, 10)
	}
	return ""
}

func (h *httpWire) register(ctx context.Context, service []byte, ttl time.Duration) error {
	lease, err := parseRegistration(service, ttl)
	if err != nil {
		return err
	}
	ctx, cancel := h.bounded(ctx)
	defer cancel()
	if ttl > 0 {
		if done, err := h.renew(ctx, lease); done || err != nil {
			return err
		}
	}
	target := fmt.Sprintf("/registry?ttl=%dms%s", ttl.Milliseconds(), h.incarnation())
	got, err := h.call(ctx, http.MethodPost, target, service)
	if err == nil {
		err = refusal("register "+lease.name, got)
	}
	if err != nil {
		return err
	}
	var said struct {
		Index uint64
		Nodes []struct{ ID, Digest string }
	}
	if err := json.Unmarshal(got.body, &said); err != nil {
		return decode("register "+lease.name, got.body, &said)
	}
	digests := map[string]string{}
	for _, node := range said.Nodes {
		digests[node.ID] = node.Digest
	}
	if ttl > 0 {
		h.leases.put(lease, digests)
	}
	h.hub.wrote(said.Index)
	return nil
}

// renew renews a registration that this client made, if it is the very same.
// False: it has to be registered.
func (h *httpWire) renew(ctx context.Context, lease registration) (bool, error) {
	nodes := h.leases.digests(lease)
	if nodes == nil {
		return false, nil
	}
	for i := range nodes {
		nodes[i].Incarnation = h.current().Incarnation
	}
	body, err := json.Marshal(map[string]any{"nodes": nodes})
	if err != nil {
		return false, &failure{ErrInvalid, err.Error()}
	}
	got, err := h.call(ctx, http.MethodPut, "/registry/renew", body)
	if err != nil {
		return false, err
	}
	if got.status == http.StatusNotFound {
		h.leases.forget(lease.name, lease.ids)
		return false, nil
	}
	return true, refusal("renew "+lease.name, got)
}

func (h *httpWire) deregister(ctx context.Context, service []byte) error {
	lease, err := parseRegistration(service, 0)
	if err != nil {
		return err
	}
	ctx, cancel := h.bounded(ctx)
	defer cancel()
	h.leases.forget(lease.name, lease.ids)
	target := "/registry"
	if number := h.incarnation(); number != "" {
		target += "?" + number[1:]
	}
	got, err := h.call(ctx, http.MethodDelete, target, service)
	if err == nil {
		err = refusal("deregister "+lease.name, got)
	}
	if err != nil {
		return err
	}
	var said struct{ Index uint64 }
	err = decode("deregister "+lease.name, got.body, &said)
	h.hub.wrote(said.Index)
	return err
}

func (h *httpWire) get(ctx context.Context, name string, reads Reads,
	fromWatch bool) ([]byte, error) {
	if fromWatch && reads != Consistent {
		if body, ok := h.hub.read(name); ok {
			return found(body)
		}
	}
	ctx, cancel := h.bounded(ctx)
	defer cancel()
	got, err := h.call(ctx, http.MethodGet,
		"/registry?service="+url.QueryEscape(name)+mode(reads), nil)
	if err == nil {
		err = refusal("get "+name, got)
	}
	if err != nil {
		return nil, err
	}
	return found(got.body)
}

// found makes an error of an empty array.
func found(body []byte) ([]byte, error) {
	if len(body) < 8 && string(bytes.Join(bytes.Fields(body), nil)) == "[]" {
		return nil, ErrNotFound
	}
	return body, nil
}

func (h *httpWire) list(ctx context.Context, reads Reads) ([]byte, error) {
	ctx, cancel := h.bounded(ctx)
	defer cancel()
	target := "/registry"
	if option := mode(reads); option != "" {
		target += "?" + option[1:]
	}
	got, err := h.call(ctx, http.MethodGet, target, nil)
	if err == nil {
		err = refusal("list", got)
	}
	return got.body, err
}

func mode(reads Reads) string {
	switch reads {
	case Stale:
		return "&stale"
	case Consistent:
		return "&consistent"
	}
	return ""
}

func (h *httpWire) watch(name string) (source, error) {
	return h.hub.watch(name)
}
