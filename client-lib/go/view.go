// SPDX-License-Identifier: Apache-2.0

package microreg

import (
	"bytes"
	"encoding/json"
	"sort"
)

// An object is one service with one node, as a stream told it. It never changes.
type object struct {
	name, version, id string
	service           json.RawMessage
}

// parseObject looks at the service of a line; nil: it is none.
func parseObject(service json.RawMessage) *object {
	var s struct {
		Name    string `json:"name"`
		Version string `json:"version"`
		Nodes   []struct {
			ID string `json:"id"`
		} `json:"nodes"`
	}
	if json.Unmarshal(service, &s) != nil || len(s.Nodes) != 1 {
		return nil
	}
	return &object{s.Name, s.Version, s.Nodes[0].ID, service}
}

// key tells the nodes of a view apart.
func (o *object) key() string { return o.name + "\x00" + o.id }

func (o *object) event(action string, index uint64) Event {
	return Event{Action: action, Index: index, Service: o.service, object: o}
}

// A view is what is registered, as far as it is followed.
type view map[string]*object

// put adds an object and returns what that is to a watcher. The same again is
// nothing; a node whose version changes leaves the old one: whoever keeps a list
// by version must be told so.
func (v view) put(o *object, index uint64) []Event {
	was := v[o.key()]
	v[o.key()] = o
	switch {
	case was == nil:
		return []Event{o.event("create", index)}
	case was.version != o.version:
		return []Event{was.event("delete", index), o.event("create", index)}
	case !bytes.Equal(was.service, o.service):
		return []Event{o.event("update", index)}
	}
	return nil
}

// remove removes an object, if it is there.
func (v view) remove(o *object, index uint64) []Event {
	was := v[o.key()]
	if was == nil {
		return nil
	}
	delete(v, o.key())
	return []Event{was.event("delete", index)}
}

// become makes v hold what other holds, and returns the difference.
func (v view) become(other view, index uint64) []Event {
	var events []Event
	for _, o := range v.sorted() {
		if other[o.key()] == nil {
			events = append(events, v.remove(o, index)...)
		}
	}
	for _, o := range other.sorted() {
		events = append(events, v.put(o, index)...)
	}
	return events
}

// sorted returns the objects by name, version and node ID.
func (v view) sorted() []*object {
	out := make([]*object, 0, len(v))
	for _, o := range v {
		out = append(out, o)
	}
	sort.Slice(out, func(i, j int) bool {
		a, b := out[i], out[j]
		if a.name != b.name {
			return a.name < b.name
		}
		if a.version != b.version {
			return a.version < b.version
		}
		return a.id < b.id
	})
	return out
}

// named returns the objects of one service.
func (v view) named(name string) view {
	out := view{}
	for key, o := range v {
		if o.name == name {
			out[key] = o
		}
	}
	return out
}

// A merged is a version of a service with all its nodes, as GET /registry has it.
type merged struct {
	Name      string            `json:"name"`
	Version   string            `json:"version"`
	Metadata  json.RawMessage   `json:"metadata"`
	Endpoints json.RawMessage   `json:"endpoints"`
	Nodes     []json.RawMessage `json:"nodes"`
}

// render returns the services as GET /registry would: endpoints and metadata of
// a version are those of its first node.
func (v view) render() ([]byte, error) {
	services := []*merged{}
	for _, o := range v.sorted() {
		one := &merged{}
		if err := json.Unmarshal(o.service, one); err != nil {
			return nil, err
		}
		if n := len(services); n > 0 && services[n-1].Name == one.Name &&
			services[n-1].Version == one.Version {
			services[n-1].Nodes = append(services[n-1].Nodes, one.Nodes...)
			continue
		}
		services = append(services, one)
	}
	return json.Marshal(services)
}
