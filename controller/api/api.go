// Package api serves the running controller to its command line over HTTP on a
// Unix socket. Who may open the socket may operate the controller; who did is
// taken from the kernel, not from the request.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/detector/explain"
	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

// Controller is what the API shows and operates.
type Controller interface {
	// Status is one JSON object; its shape is the controller's.
	Status() any
	Findings() []detector.Finding
	// Explain puts a finding into words and numbers.
	Explain(id string) (explain.Explanation, error)
	Decisions() []response.Decision
	// Decision is one of them, with what it would have hit by now.
	Decision(ctx context.Context, id string) (response.Decision, error)
	Playbooks
	Hosts() any
	Topology() any
	// Rules reads what is installed on the switches.
	Rules(ctx context.Context) (any, error)
	// Installed reads the same by switch, with the meters and groups that
	// the rules need.
	Installed(ctx context.Context) (any, error)
	// Drift compares the switches with what is wanted on them, and changes
	// nothing.
	Drift(ctx context.Context) (any, error)
	// What people answer goes with who says so and, if they say it, why.
	Approve(ctx context.Context, id, who, why string) error
	Reject(ctx context.Context, id, who, why string) error
	Release(ctx context.Context, id, who, why string) error
	// Contain does what somebody asks for by name; see response.Order.
	Contain(ctx context.Context, o response.Order) (id string, err error)
	// Preview says what Contain would do, and does nothing.
	Preview(ctx context.Context, o response.Order) (response.Decision, error)
	SetBrake(ctx context.Context, on, release bool, who string) error
	Steering
	Segmentation
	// Feedback keeps an operator's verdict on a finding, and tells how many
	// windows of the host stand behind it.
	Feedback(id string, actual bool, who, why string) (windows int, err error)
}

// Server answers on a Unix socket.
type Server struct {
	path string
	ctl  Controller
	hub  *Hub
}

// NewServer returns a server; it binds nothing before Run.
func NewServer(path string, ctl Controller, hub *Hub) *Server {
	return &Server{path: path, ctl: ctl, hub: hub}
}

type peerKey struct{}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	l, err := listen(s.path)
	if err != nil {
		return err
	}
	srv := &http.Server{
		Handler: s.routes(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, peer(c))
		},
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", s.path, err)
	}
	return nil
}

// listen binds the socket for its owner alone, and takes the place of a dead
// controller's socket, never of a living one's.
func listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make directory of API socket: %w", err)
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("API socket %s: another platelet answers there", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove stale API socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("bind API socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("restrict API socket: %w", err)
	}
	return l, nil
}

// peer names the user at the other end of the socket.
func peer(c net.Conn) string {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return "unknown"
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return "unknown"
	}
	who := "unknown"
	_ = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			return
		}
		uid := strconv.Itoa(int(cred.Uid))
		who = "uid " + uid
		if u, err := user.LookupId(uid); err == nil {
			who = u.Username
		}
	})
	return who
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	get := func(path string, f func(*http.Request) (any, error)) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) { reply(w, r, f) })
	}
	post := func(path string, f func(*http.Request) (any, error)) {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) { reply(w, r, f) })
	}
	get("/v1/status", func(*http.Request) (any, error) { return s.ctl.Status(), nil })
	get("/v1/findings", func(*http.Request) (any, error) { return s.ctl.Findings(), nil })
	get("/v1/findings/{id}/explanation", func(r *http.Request) (any, error) { return s.ctl.Explain(r.PathValue("id")) })
	get("/v1/decisions", func(*http.Request) (any, error) { return s.ctl.Decisions(), nil })
	get("/v1/decisions/{id}", func(r *http.Request) (any, error) { return s.ctl.Decision(r.Context(), r.PathValue("id")) })
	get("/v1/playbooks", func(*http.Request) (any, error) { return s.ctl.Playbooks(), nil })
	post("/v1/playbooks/reload", s.reloadPlaybooks)
	get("/v1/runs", func(*http.Request) (any, error) { return s.ctl.Runs(), nil })
	get("/v1/hosts", func(*http.Request) (any, error) { return s.ctl.Hosts(), nil })
	get("/v1/topology", func(*http.Request) (any, error) { return s.ctl.Topology(), nil })
	get("/v1/rules", func(r *http.Request) (any, error) { return s.ctl.Rules(r.Context()) })
	get("/v1/rules/installed", func(r *http.Request) (any, error) { return s.ctl.Installed(r.Context()) })
	get("/v1/rules/drift", func(r *http.Request) (any, error) { return s.ctl.Drift(r.Context()) })
	get("/v1/policies", func(*http.Request) (any, error) { return s.ctl.Policies(), nil })
	get("/v1/policies/hits", func(r *http.Request) (any, error) { return s.ctl.PolicyHits(r.Context()) })
	get("/v1/policies/sources", func(r *http.Request) (any, error) { return s.ctl.Sources(r.Context()) })
	get("/v1/policies/staged", func(*http.Request) (any, error) { return s.ctl.Staged(), nil })
	get("/v1/workloads", func(*http.Request) (any, error) { return s.ctl.Workloads(), nil })
	post("/v1/policies/recommend", s.recommend)
	post("/v1/policies/reload", func(r *http.Request) (any, error) { return nil, s.ctl.ReloadPolicies(r.Context(), who(r)) })
	mux.HandleFunc("GET /v1/events", s.events)
	act := func(name string, f func(ctx context.Context, id, who, why string) error) {
		post("/v1/decisions/{id}/"+name, func(r *http.Request) (any, error) {
			var q actRequest
			if r.ContentLength != 0 {
				if err := decode(r, &q); err != nil {
					return nil, err
				}
			}
			if len(q.Why) > maxWhy {
				return nil, &requestError{fmt.Sprintf("a reason has at most %d bytes", maxWhy)}
			}
			return nil, f(r.Context(), r.PathValue("id"), who(r), q.Why)
		})
	}
	act("approve", s.ctl.Approve)
	act("reject", s.ctl.Reject)
	act("release", s.ctl.Release)
	post("/v1/quarantine", s.contain)
	post("/v1/brake", s.brake)
	post("/v1/decisions/{id}/extend", s.extend)
	get("/v1/exemptions", func(*http.Request) (any, error) { return s.ctl.Exemptions(), nil })
	post("/v1/exemptions", s.exempt)
	mux.HandleFunc("DELETE /v1/exemptions/{host}", func(w http.ResponseWriter, r *http.Request) { reply(w, r, s.unexempt) })
	post("/v1/findings/{id}/feedback", s.feedback)
	return mux
}

func who(r *http.Request) string {
	w, _ := r.Context().Value(peerKey{}).(string)
	return w
}

type actRequest struct {
	Why string `json:"why,omitempty"`
}

type brakeRequest struct {
	On      bool `json:"on"`
	Release bool `json:"release"`
}

func (s *Server) brake(r *http.Request) (any, error) {
	var q brakeRequest
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	return nil, s.ctl.SetBrake(r.Context(), q.On, q.Release, who(r))
}

type feedbackRequest struct {
	Real bool   `json:"real"`
	Why  string `json:"why"`
}

func (s *Server) feedback(r *http.Request) (any, error) {
	var q feedbackRequest
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	if len(q.Why) > maxWhy {
		return nil, &requestError{fmt.Sprintf("a reason has at most %d bytes", maxWhy)}
	}
	n, err := s.ctl.Feedback(r.PathValue("id"), q.Real, who(r), q.Why)
	return feedbackReply{Windows: n}, err
}

// maxWhy bounds an operator's reason, in bytes.
const maxWhy = 1000

type feedbackReply struct {
	Windows int `json:"windows"`
}

// requestError is the caller's fault.
type requestError struct{ msg string }

func (e *requestError) Error() string { return e.msg }

func decode(r *http.Request, into any) error {
	dec := json.NewDecoder(http.MaxBytesReader(nil, r.Body, 64<<10))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return &requestError{fmt.Sprintf("request body: %v", err)}
	}
	return nil
}

type errorReply struct {
	Error string `json:"error"`
}

func reply(w http.ResponseWriter, r *http.Request, f func(*http.Request) (any, error)) {
	w.Header().Set("Content-Type", "application/json")
	v, err := f(r)
	if err != nil {
		var bad *requestError
		var faults strictyaml.Errors
		code := http.StatusInternalServerError
		switch {
		case errors.As(err, &bad), errors.As(err, &faults):
			code = http.StatusBadRequest
		case errors.Is(err, response.ErrNotFound):
			code = http.StatusNotFound
		case errors.Is(err, response.ErrState):
			code = http.StatusConflict
		case errors.Is(err, response.ErrNotAllowed):
			code = http.StatusForbidden
		}
		w.WriteHeader(code)
		v = errorReply{Error: err.Error()}
	}
	_ = json.NewEncoder(w).Encode(v) // a client that went away is no fault of ours
}

// events streams one JSON line per event until either side leaves.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	sub := s.hub.Subscribe()
	defer sub.Close()
	w.Header().Set("Content-Type", "application/x-ndjson")
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{})
	if err := rc.Flush(); err != nil {
		return
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case line := <-sub.C:
			_ = rc.SetWriteDeadline(time.Now().Add(5 * time.Second))
			if _, err := w.Write(append(line, '\n')); err != nil {
				return
			}
			if err := rc.Flush(); err != nil {
				return
			}
		}
	}
}
