package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"github.com/platelet-sdn/platelet/controller/audit"
	"github.com/platelet-sdn/platelet/controller/response"
)

// Extend implements api.Controller.
func (c *Controller) Extend(ctx context.Context, id, who string, by time.Duration) error {
	e := audit.Event{Who: who, Decision: id, Detail: map[string]string{"by": by.String()}}
	return c.audit.operator(e, "extend", func() error { return c.manager.Extend(ctx, id, who, by) })
}

// Exempt implements api.Controller.
func (c *Controller) Exempt(ctx context.Context, x response.Exemption) error {
	detail := map[string]string{"hosts": fmt.Sprint(x.Hosts), "until": x.Until.UTC().Format(time.RFC3339)}
	if len(x.Kinds) > 0 {
		detail["kinds"] = fmt.Sprint(x.Kinds)
	}
	if len(x.Services) > 0 {
		raw, err := json.Marshal(x.Services)
		if err != nil {
			return err
		}
		detail["services"] = string(raw)
	}
	return c.audit.operator(audit.Event{Who: x.Who, Why: x.Why, Detail: detail}, "exempt", func() error { return c.manager.Exempt(ctx, x) })
}

// Unexempt implements api.Controller.
func (c *Controller) Unexempt(ctx context.Context, host netip.Addr, who string) error {
	e := audit.Event{Who: who, Detail: map[string]string{"hosts": host.String()}}
	return c.audit.operator(e, "unexempt", func() error { return c.manager.Unexempt(ctx, host, who) })
}

// Exemptions implements api.Controller.
func (c *Controller) Exemptions() []response.Exemption { return c.manager.Exemptions() }

// Preview implements api.Controller.
func (c *Controller) Preview(ctx context.Context, o response.Order) (response.Decision, error) {
	return c.manager.Preview(ctx, o)
}

// Contain implements api.Controller.
func (c *Controller) Contain(ctx context.Context, o response.Order) (id string, err error) {
	action := response.ActionQuarantine
	if o.Peer.IsValid() || o.Proto != 0 {
		action = response.ActionSegment
	}
	at := response.Target{Host: o.Host, Peer: o.Peer, Proto: o.Proto, Service: o.Service}
	e := audit.Event{Who: o.Who, Action: action, At: &at, Detail: map[string]string{"for": o.For.String()}}
	err = c.audit.operator(e, string(action), func() (err error) {
		id, err = c.manager.Contain(ctx, o)
		return err
	})
	return id, err
}
