package controller

import (
	"context"
	"net/netip"
	"time"

	"github.com/platelet-sdn/platelet/controller/response"
)

// Extend implements api.Controller.
func (c *Controller) Extend(ctx context.Context, id, who string, by time.Duration) error {
	return c.manager.Extend(ctx, id, who, by)
}

// Exempt implements api.Controller.
func (c *Controller) Exempt(ctx context.Context, x response.Exemption) error {
	return c.manager.Exempt(ctx, x)
}

// Unexempt implements api.Controller.
func (c *Controller) Unexempt(ctx context.Context, host netip.Addr, who string) error {
	return c.manager.Unexempt(ctx, host, who)
}

// Exemptions implements api.Controller.
func (c *Controller) Exemptions() []response.Exemption { return c.manager.Exemptions() }
