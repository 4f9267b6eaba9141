package controller

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/controller/api"
	"github.com/platelet-sdn/platelet/controller/audit"
	"github.com/platelet-sdn/platelet/controller/files"
	"github.com/platelet-sdn/platelet/controller/probe"
	"github.com/platelet-sdn/platelet/controller/response/playbook"
	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

// reloadTimeout is how long who asks for files to be read waits for the disk.
const reloadTimeout = 10 * time.Second

// reloads is what became of the files of playbooks.
type reloads struct {
	watch *files.Watch

	mu     sync.Mutex
	status api.PlaybookStatus
}

// loadPlaybooks reads what is in force from the beginning.
func (c *Controller) loadPlaybooks() error {
	c.reloads.watch = files.NewWatch(c.cfg.PlaybookFiles)
	set, err := files.Take(c.reloads.watch, c.cfg.LoadPlaybooks)
	if err != nil {
		return err
	}
	c.playbooks, c.reloads.status = playbook.NewLive(set), c.playbookStatus(set)
	return nil
}

func (c *Controller) playbookStatus(set *playbook.Set) api.PlaybookStatus {
	s := api.PlaybookStatus{Version: set.Version(), Playbooks: len(set.Playbooks()), Loaded: time.Now().UTC()}
	s.Files, _ = c.cfg.PlaybookFiles() // they were read a moment ago
	return s
}

// Playbooks implements api.Controller.
func (c *Controller) Playbooks() api.PlaybookStatus {
	c.reloads.mu.Lock()
	defer c.reloads.mu.Unlock()
	return c.reloads.status
}

// ReloadPlaybooks implements api.Controller: it reads the files of playbooks and
// puts them in force, all or none. What has begun goes on by those that it began
// with.
func (c *Controller) ReloadPlaybooks(ctx context.Context, who string) (status api.PlaybookStatus, err error) {
	ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	err = c.reloads.watch.Ask(ctx, func() error { return c.takePlaybooks(who) })
	return c.Playbooks(), err
}

// takePlaybooks does so, in the goroutine that watches them.
func (c *Controller) takePlaybooks(who string) error {
	set, err := files.Take(c.reloads.watch, func() (*playbook.Set, error) {
		set, err := c.cfg.LoadPlaybooks()
		if err == nil {
			err = probe.Check(probesOf(set.Playbooks()))
		}
		return set, err
	})
	if err == nil {
		err = c.probes.Replace(probesOf(set.Playbooks()))
	}
	if err != nil {
		return c.keepPlaybooks(who, err)
	}
	before := c.playbooks.Current().Version()
	c.playbooks.Replace(set)
	status := c.playbookStatus(set)
	c.reloads.mu.Lock()
	c.reloads.status = status
	c.reloads.mu.Unlock()
	c.log.WithFields(logrus.Fields{"who": who, "version": set.Version(), "before": before, "playbooks": status.Playbooks}).Warn("playbooks read again")
	c.audit.record(audit.Event{What: "playbooks.reloaded", Who: who, Detail: map[string]string{"version": set.Version(), "before": before, "playbooks": fmt.Sprint(status.Playbooks)}})
	return nil
}

// keepPlaybooks says why those in force stay.
func (c *Controller) keepPlaybooks(who string, err error) error {
	c.reloads.mu.Lock()
	again := who == byWatch && c.reloads.status.Error == err.Error() // a disk is tried again and again
	c.reloads.status.Error, c.reloads.status.Failed = err.Error(), time.Now().UTC()
	version := c.reloads.status.Version
	c.reloads.mu.Unlock()
	why := err.Error()
	err = fmt.Errorf("playbooks of version %s stay in force: %w", version, err)
	if again || who == byWatch && errors.Is(err, files.ErrChanging) {
		return err
	}
	var faults strictyaml.Errors
	log := c.log.WithFields(logrus.Fields{"who": who, "version": version})
	if !errors.As(err, &faults) {
		log.Error(err)
	}
	for _, f := range faults { // one line each, as editors take them
		log.Errorf("playbooks have faults; those in force stay: %s", f)
	}
	c.audit.record(audit.Event{What: "playbooks.refused", Who: who, Why: why, Detail: map[string]string{"version": version}})
	return err
}

// byWatch is who reads playbooks when their files have changed.
const byWatch = "change of files"

// watchPlaybooks reads the files again when they have changed, and when it is told
// to. It does not wait at its end for a disk that does not answer.
func (c *Controller) watchPlaybooks(ctx context.Context) error {
	var changed func()
	if c.cfg.PlaybookWatch {
		changed = func() { _ = c.takePlaybooks(byWatch) } // which says what is wrong
	}
	go c.reloads.watch.Follow(ctx, changed, func() {
		c.log.Warn("files of playbooks change all the time and are not read: those in force stay")
	})
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.opts.Reload:
			// It says itself what is wrong, but that the disk does not answer.
			if _, err := c.ReloadPlaybooks(ctx, "signal"); errors.Is(err, context.DeadlineExceeded) {
				c.log.WithError(err).Error("playbooks could not be read again")
			}
		}
	}
}

// probesOf are all that playbooks name.
func probesOf(books []playbook.Playbook) (targets []string) {
	for i := range books {
		targets = append(targets, books[i].Probes...)
	}
	return targets
}
