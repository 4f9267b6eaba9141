package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
)

// Steering is what operators may change of containments that stand or are to
// come.
type Steering interface {
	// Extend holds a containment for at least this much longer.
	Extend(ctx context.Context, id, who string, by time.Duration) error
	// Exempt leaves a host alone for a time.
	Exempt(ctx context.Context, x response.Exemption) error
	// Unexempt ends what operators exempted a host from.
	Unexempt(ctx context.Context, host netip.Addr, who string) error
	Exemptions() []response.Exemption
}

// longest is how far ahead an operator may order something.
const longest = 30 * 24 * time.Hour

type containRequest struct {
	Host    netip.Addr `json:"host"`
	Peer    netip.Addr `json:"peer,omitzero"`
	Proto   uint8      `json:"proto,omitempty"`
	Service uint16     `json:"service,omitempty"`
	Seconds int64      `json:"seconds"`
	// DryRun asks for the decision, with what it would have hit, and nothing
	// more.
	DryRun bool `json:"dry_run,omitempty"`
}

func (s *Server) contain(r *http.Request) (any, error) {
	var q containRequest
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	if !q.Host.IsValid() || q.Seconds < 0 || q.Seconds > int64(longest/time.Second) {
		return nil, &requestError{fmt.Sprintf("host must be an address, seconds 0 to %d", int64(longest/time.Second))}
	}
	o := response.Order{Host: q.Host.Unmap(), Peer: q.Peer.Unmap(), Proto: q.Proto, Service: q.Service,
		For: time.Duration(q.Seconds) * time.Second, Who: who(r)}
	if q.DryRun {
		return s.ctl.Preview(r.Context(), o)
	}
	id, err := s.ctl.Contain(r.Context(), o)
	return map[string]string{"id": id}, err
}

type extendRequest struct {
	Seconds int64 `json:"seconds"`
}

func (s *Server) extend(r *http.Request) (any, error) {
	var q extendRequest
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	if q.Seconds <= 0 || q.Seconds > int64(longest/time.Second) {
		return nil, &requestError{fmt.Sprintf("seconds must be 1 to %d", int64(longest/time.Second))}
	}
	return nil, s.ctl.Extend(r.Context(), r.PathValue("id"), who(r), time.Duration(q.Seconds)*time.Second)
}

type exemptRequest struct {
	Host  netip.Addr      `json:"host"`
	Kinds []detector.Kind `json:"kinds,omitempty"`
	// All says that there are no kinds on purpose: it is from all of them.
	All      bool               `json:"all,omitempty"`
	Services []response.Service `json:"services,omitempty"`
	Seconds  int64              `json:"seconds"`
	Why      string             `json:"why,omitempty"`
}

func (s *Server) exempt(r *http.Request) (any, error) {
	var q exemptRequest
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	if !q.Host.IsValid() || q.Seconds <= 0 || q.Seconds > int64(longest/time.Second) || len(q.Why) > maxWhy {
		return nil, &requestError{fmt.Sprintf("host must be an address, seconds 1 to %d, why at most %d bytes", int64(longest/time.Second), maxWhy)}
	}
	if q.All != (len(q.Kinds) == 0) {
		return nil, &requestError{"name the kinds of findings that it is exempt from, or all: it may be taken over"}
	}
	for _, k := range q.Kinds {
		if _, ok := k.Info(); !ok {
			return nil, &requestError{fmt.Sprintf("there is no finding of kind %q", k)}
		}
	}
	q.Host = q.Host.Unmap()
	return nil, s.ctl.Exempt(r.Context(), response.Exemption{Hosts: []netip.Prefix{netip.PrefixFrom(q.Host, q.Host.BitLen())}, Kinds: q.Kinds, Services: q.Services,
		Until: time.Now().Add(time.Duration(q.Seconds) * time.Second), Why: q.Why, Who: who(r)})
}

func (s *Server) unexempt(r *http.Request) (any, error) {
	host, err := netip.ParseAddr(r.PathValue("host"))
	if err != nil {
		return nil, &requestError{err.Error()}
	}
	return nil, s.ctl.Unexempt(r.Context(), host, who(r))
}

// Contain contains a host: in quarantine, or kept from a peer or a service where
// the order names one. The answer is the decision's ID; who asks is who owns the
// other end of the socket.
func (c *Client) Contain(ctx context.Context, o response.Order) (string, error) {
	var out struct {
		ID string `json:"id"`
	}
	err := c.call(ctx, http.MethodPost, "quarantine",
		containRequest{Host: o.Host, Peer: o.Peer, Proto: o.Proto, Service: o.Service, Seconds: int64(o.For / time.Second)}, &out)
	return out.ID, err
}

// Preview returns the decision that Contain would make, as JSON, with the guards'
// answers and what it would have hit in the last hour; nothing is done.
func (c *Client) Preview(ctx context.Context, o response.Order) (out json.RawMessage, err error) {
	err = c.call(ctx, http.MethodPost, "quarantine",
		containRequest{Host: o.Host, Peer: o.Peer, Proto: o.Proto, Service: o.Service, Seconds: int64(o.For / time.Second), DryRun: true}, &out)
	return out, err
}

// Extend holds a containment for at least this much longer.
func (c *Client) Extend(ctx context.Context, id string, by time.Duration) error {
	return c.call(ctx, http.MethodPost, "decisions/"+url.PathEscape(id)+"/extend", extendRequest{Seconds: int64(by / time.Second)}, nil)
}

// Exempt leaves a host alone for a time: from the given kinds of findings, from
// all if there are none, and where services are given from those about one of them.
func (c *Client) Exempt(ctx context.Context, host netip.Addr, kinds []detector.Kind, services []response.Service, d time.Duration, why string) error {
	return c.call(ctx, http.MethodPost, "exemptions",
		exemptRequest{Host: host, Kinds: kinds, All: len(kinds) == 0, Services: services, Seconds: int64(d / time.Second), Why: why}, nil)
}

// Unexempt ends what operators exempted a host from.
func (c *Client) Unexempt(ctx context.Context, host netip.Addr) error {
	return c.call(ctx, http.MethodDelete, "exemptions/"+host.String(), nil, nil)
}
