package actions

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/platelet-sdn/platelet/controller/response/playbook"
	"github.com/platelet-sdn/platelet/controller/response/run"
)

const (
	defaultSocket = "/var/run/docker.sock"
	// labelStep marks a container that we made, with the step's key, and
	// labelReplaces says for which one. They are how an attempt that was cut
	// off is taken up again.
	labelStep     = "org.platelet.step"
	labelReplaces = "org.platelet.replaces"
	// stopSeconds is how long a container may take to end by itself.
	stopSeconds = "5"
	maxEngine   = 8 << 20 // bytes of an answer
)

// engine speaks the Docker Engine API over its socket.
type engine struct{ http *http.Client }

// redeploy restarts or recreates every running container of a label.
func redeploy(ctx context.Context, key string, d playbook.Docker) (string, error) {
	if _, value, ok := strings.Cut(d.Label, "="); !ok || value == "" {
		return "", run.Permanent(fmt.Errorf("label %q has no value: nothing is meant by it", d.Label))
	}
	socket := d.Socket
	if socket == "" {
		socket = defaultSocket
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", socket)
	}}
	e := &engine{&http.Client{Transport: transport}}
	if d.Do == "restart" {
		return e.restart(ctx, d.Label)
	}
	return e.recreate(ctx, key, d.Label)
}

// summary is a container as a list has it.
type summary struct {
	ID     string            `json:"Id"`
	Names  []string          `json:"Names"`
	Labels map[string]string `json:"Labels"`
	State  string            `json:"State"`
}

func (s *summary) name() string {
	if len(s.Names) == 0 {
		return s.ID
	}
	return strings.TrimPrefix(s.Names[0], "/")
}

// list returns the containers that carry all labels, stopped ones too.
func (e *engine) list(ctx context.Context, labels ...string) ([]summary, error) {
	filters, err := json.Marshal(map[string][]string{"label": labels})
	if err != nil {
		return nil, err
	}
	var out []summary
	err = e.call(ctx, http.MethodGet, "/containers/json?all=1&filters="+url.QueryEscape(string(filters)), nil, &out)
	return out, err
}

// running are the containers of a label that run, and are none of ours of this
// step.
func (e *engine) running(ctx context.Context, label, key string) ([]summary, error) {
	all, err := e.list(ctx, label)
	return slices.DeleteFunc(all, func(c summary) bool {
		return key != "" && c.Labels[labelStep] == key || c.State != "running" && c.State != "restarting" && c.State != "paused"
	}), err
}

func (e *engine) restart(ctx context.Context, label string) (string, error) {
	list, err := e.running(ctx, label, "")
	if err != nil {
		return "", err
	}
	if len(list) == 0 {
		return "", run.Permanent(fmt.Errorf("no running container carries %s", label))
	}
	var names []string
	for _, c := range list {
		if err := e.call(ctx, http.MethodPost, "/containers/"+c.ID+"/restart?t="+stopSeconds, nil, nil); err != nil {
			return "", fmt.Errorf("restart %s: %w", c.name(), err)
		}
		names = append(names, c.name())
	}
	return "restarted " + strings.Join(names, ", "), nil
}

// recreate replaces containers by new ones of the same image and settings. What
// was there is stopped, renamed and kept: it is evidence. If the new one does
// not start, the old one is put back.
func (e *engine) recreate(ctx context.Context, key, label string) (string, error) {
	made, err := e.list(ctx, labelStep+"="+key)
	if err != nil {
		return "", err
	}
	var names []string
	for _, c := range made { // of an attempt that was cut off
		var old inspected
		if err := e.call(ctx, http.MethodGet, "/containers/"+c.Labels[labelReplaces]+"/json", nil, &old); err != nil {
			return "", err
		}
		if err := errors.Join(e.join(ctx, c.ID, &old), e.swap(ctx, old.ID, c.ID)); err != nil {
			return "", err
		}
		names = append(names, c.name())
	}
	list, err := e.running(ctx, label, key)
	if err != nil {
		return "", err
	}
	for _, c := range list {
		name, err := e.replace(ctx, key, c.ID)
		if err != nil {
			return "", fmt.Errorf("recreate %s: %w", c.name(), err)
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return "", run.Permanent(fmt.Errorf("no running container carries %s", label))
	}
	return "recreated " + strings.Join(names, ", "), nil
}

// inspected is what a container is made of.
type inspected struct {
	ID              string `json:"Id"`
	Name            string
	Config          map[string]any
	HostConfig      map[string]any
	NetworkSettings struct{ Networks map[string]map[string]any }
}

// retired is the end of the name of a container that was replaced by a step.
func retired(key string) string { return "-before-" + key }

// replace makes the new container beside the old one, and swaps them.
func (e *engine) replace(ctx context.Context, key, old string) (string, error) {
	var in inspected
	if err := e.call(ctx, http.MethodGet, "/containers/"+old+"/json", nil, &in); err != nil {
		return "", err
	}
	name, cut := strings.CutSuffix(strings.TrimPrefix(in.Name, "/"), retired(key))
	if !cut {
		if err := e.rename(ctx, old, name+retired(key)); err != nil {
			return "", err
		}
	}
	id, err := e.create(ctx, key, name, &in)
	if err == nil {
		err = e.join(ctx, id, &in)
	}
	if err == nil {
		err = e.swap(ctx, old, id)
	}
	if err != nil && ctx.Err() == nil {
		err = errors.Join(err, e.putBack(ctx, &in, id, name))
	}
	return name, err
}

func (e *engine) rename(ctx context.Context, id, name string) error {
	return e.call(ctx, http.MethodPost, "/containers/"+id+"/rename?name="+url.QueryEscape(name), nil, nil)
}

// create makes a container like the one that was inspected.
func (e *engine) create(ctx context.Context, key, name string, in *inspected) (string, error) {
	body := maps.Clone(in.Config)
	if host, _ := body["Hostname"].(string); strings.HasPrefix(in.ID, host) {
		delete(body, "Hostname") // it was made of the ID
	}
	labels := map[string]any{labelStep: key, labelReplaces: in.ID}
	if old, ok := body["Labels"].(map[string]any); ok {
		for k, v := range old {
			if _, ours := labels[k]; !ours {
				labels[k] = v
			}
		}
	}
	body["Labels"], body["HostConfig"] = labels, in.HostConfig
	names := slices.Sorted(maps.Keys(in.NetworkSettings.Networks))
	if len(names) > 0 { // older engines take one only
		body["NetworkingConfig"] = map[string]any{"EndpointsConfig": map[string]any{names[0]: endpoint(in, names[0])}}
	}
	var made struct{ ID string }
	if err := e.call(ctx, http.MethodPost, "/containers/create?name="+url.QueryEscape(name), body, &made); err != nil {
		return "", err
	}
	return made.ID, nil
}

// join brings a container into those networks of another that it is not in.
func (e *engine) join(ctx context.Context, fresh string, old *inspected) error {
	var in inspected
	if err := e.call(ctx, http.MethodGet, "/containers/"+fresh+"/json", nil, &in); err != nil {
		return err
	}
	for _, n := range slices.Sorted(maps.Keys(old.NetworkSettings.Networks)) {
		if _, there := in.NetworkSettings.Networks[n]; there {
			continue
		}
		body := map[string]any{"Container": fresh, "EndpointConfig": endpoint(old, n)}
		if err := e.call(ctx, http.MethodPost, "/networks/"+url.PathEscape(n)+"/connect", body, nil); err != nil {
			return fmt.Errorf("join network %s: %w", n, err)
		}
	}
	return nil
}

// endpoint is what was asked for of a network, without what the engine made up.
func endpoint(in *inspected, network string) map[string]any {
	out := map[string]any{}
	for _, k := range []string{"IPAMConfig", "Links", "DriverOpts"} {
		if v := in.NetworkSettings.Networks[network][k]; v != nil {
			out[k] = v
		}
	}
	if aliases, ok := in.NetworkSettings.Networks[network]["Aliases"].([]any); ok {
		out["Aliases"] = slices.DeleteFunc(slices.Clone(aliases), func(a any) bool {
			s, _ := a.(string)
			return strings.HasPrefix(in.ID, s)
		})
	}
	return out
}

// swap ends the old container, for good, and starts the new one. Done again it
// changes nothing.
func (e *engine) swap(ctx context.Context, old, fresh string) error {
	never := map[string]any{"RestartPolicy": map[string]string{"Name": "no"}}
	if err := e.call(ctx, http.MethodPost, "/containers/"+old+"/update", never, nil); err != nil && !gone(err) {
		return err
	}
	if err := e.call(ctx, http.MethodPost, "/containers/"+old+"/stop?t="+stopSeconds, nil, nil); err != nil && !gone(err) {
		return err
	}
	return e.call(ctx, http.MethodPost, "/containers/"+fresh+"/start", nil, nil)
}

// putBack undoes a replacement that failed.
func (e *engine) putBack(ctx context.Context, old *inspected, fresh, name string) error {
	if fresh != "" {
		if err := e.call(ctx, http.MethodDelete, "/containers/"+fresh+"?force=1", nil, nil); err != nil && !gone(err) {
			return fmt.Errorf("remove the new one: %w", err)
		}
	}
	if err := e.rename(ctx, old.ID, name); err != nil {
		return fmt.Errorf("put the old one back: %w", err)
	}
	policy := map[string]any{"RestartPolicy": old.HostConfig["RestartPolicy"]}
	return errors.Join(e.call(ctx, http.MethodPost, "/containers/"+old.ID+"/update", policy, nil),
		e.call(ctx, http.MethodPost, "/containers/"+old.ID+"/start", nil, nil))
}

// engineError is what the engine says.
type engineError struct {
	code int
	msg  string
}

func (e *engineError) Error() string { return fmt.Sprintf("engine: %s (%d)", e.msg, e.code) }

func gone(err error) bool {
	var e *engineError
	return errors.As(err, &e) && e.code == http.StatusNotFound
}

// call makes a request. That nothing had to be changed (304) is no error.
func (e *engine) call(ctx context.Context, method, path string, body, out any) error {
	var raw io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		raw = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://engine"+path, raw)
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := e.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask the engine: %w", withoutURL(err))
	}
	defer resp.Body.Close()
	answer := io.LimitReader(resp.Body, maxEngine)
	if resp.StatusCode >= 400 {
		var said struct {
			Message string `json:"message"`
		}
		_ = json.NewDecoder(answer).Decode(&said) // without a message the code must do
		return &engineError{resp.StatusCode, said.Message}
	}
	if out == nil || resp.StatusCode == http.StatusNotModified {
		return nil
	}
	if err := json.NewDecoder(answer).Decode(out); err != nil {
		return fmt.Errorf("read the engine's answer: %w", err)
	}
	return nil
}
