package controller

import (
	"errors"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/controller/audit"
	"github.com/platelet-sdn/platelet/controller/config"
	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/controller/response/learn"
)

// newChoices makes what learns from choices of rungs; nil where there is no
// directory to keep them in.
func newChoices(cfg *config.File, log logrus.FieldLogger) *learn.Learner {
	if cfg.State.Dir == "" {
		return nil
	}
	x, r := &cfg.Response.Learning, &cfg.Response
	return learn.New(learn.Config{Mode: x.Mode, Alpha: x.Alpha, Explore: x.Explore, Seed: x.Seed,
		Relapse: r.RelapseWindow, Verify: r.VerifyWithin, StateDir: cfg.State.Dir, Log: log})
}

// chooser is what the response is given. That its log cannot be read is no reason
// not to contain anybody.
func (c *Controller) chooser() response.Chooser {
	if c.choices == nil { // else it would be an interface that holds nil
		return nil
	}
	return c.choices
}

// loadChoices learns from what was chosen before, and takes up what stands.
func (c *Controller) loadChoices() {
	if c.choices == nil {
		return
	}
	if err := c.choices.Load(c.manager.Decisions(), time.Now()); err != nil {
		c.log.WithError(err).Error("what earlier choices teach is lost")
	}
	if s := c.choices.Status(); s.Why != "" {
		c.log.WithFields(logrus.Fields{"configured": s.Configured, "mode": s.Mode, "why": s.Why}).Warn("response.learning does not go as far as configured")
	}
}

// Feedback implements api.Controller. A verdict teaches the classifier, by the
// windows behind the finding, and the choice of rungs.
func (c *Controller) Feedback(id string, actual bool, who, why string) (windows int, err error) {
	if c.learning == nil && c.choices == nil {
		return 0, fmt.Errorf("%w: there is no state directory to keep it in", response.ErrState)
	}
	e := audit.Event{Who: who, Why: why, Finding: id, After: fmt.Sprint(actual)}
	err = c.audit.operator(e, "feedback", func() error {
		err := fmt.Errorf("%w: no decision was made about %s, and detection.learned is off", response.ErrNotFound, id)
		if c.learning != nil {
			windows, err = c.learning.Feedback(id, actual, who, why)
		}
		known := c.choices != nil && c.choices.Verdict(id, actual, who, time.Now())
		if known && errors.Is(err, response.ErrNotFound) {
			return nil // about forged sources, say: no window of a host's stands behind it
		}
		return err
	})
	return windows, err
}
