package flowcollector

import (
	"context"
	"time"
)

const (
	// An exporter sends its templates in a burst of datagrams: wait for the
	// rest before writing, but not long, because what is not written when we
	// die is missing for minutes.
	saveDelay = 200 * time.Millisecond
	saveRetry = 2 * time.Second
	// saveLast is what the store gets for the last changes at shutdown.
	saveLast = 50 * time.Millisecond
)

// loadTemplates is best effort: without templates exporters that repeat theirs
// are understood late, and the counters show it.
func (c *Collector) loadTemplates(ctx context.Context) {
	if c.cfg.Templates == nil {
		return
	}
	if err := c.templates.Load(ctx, c.cfg.Templates, time.Now().UnixNano()); err != nil {
		c.log.WithError(err).Warn("templates are missing until exporters repeat them")
	}
	c.log.WithField("templates", c.templates.Len()).Debug("templates loaded")
}

// saveTemplates writes changed templates until ctx is done.
func (c *Collector) saveTemplates(ctx context.Context) error {
	timer := time.NewTimer(saveRetry)
	timer.Stop()
	defer timer.Stop()
	pending := false
	for {
		select {
		case <-c.templates.Changed():
			if !pending {
				pending = true
				timer.Reset(saveDelay)
			}
		case <-timer.C:
			pending = false
			if err := c.templates.Save(ctx, c.cfg.Templates); err != nil && ctx.Err() == nil {
				c.log.WithError(err).Warn("templates are not saved")
				pending = true
				timer.Reset(saveRetry)
			}
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveLast)
			defer cancel()
			if err := c.templates.Save(last, c.cfg.Templates); err != nil {
				c.log.WithError(err).Warn("the last templates are not saved")
			}
			return nil
		}
	}
}
