package controller

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/controller/api"
	"github.com/platelet-sdn/platelet/controller/audit"
	"github.com/platelet-sdn/platelet/controller/probe"
	"github.com/platelet-sdn/platelet/controller/response/playbook"
	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

// lookAtPlaybooks is how often the files of playbooks are looked at. They are read
// when they have changed and then stayed as they are from one look to the next:
// whoever writes one is done.
const lookAtPlaybooks = time.Second

// reloads is what became of the files of playbooks.
type reloads struct {
	turn sync.Mutex // one at a time

	mu     sync.Mutex
	status api.PlaybookStatus
	seen   []fileState // when they were read last
}

// fileState tells versions of a file apart.
type fileState struct {
	name  string
	size  int64
	time  int64
	inode uint64
	fault string // why it cannot be looked at
}

// files looks at the files of playbooks.
func (c *Controller) files() []fileState {
	names, err := c.cfg.PlaybookFiles()
	if err != nil {
		return []fileState{{fault: err.Error()}}
	}
	out := make([]fileState, len(names))
	for i, name := range names {
		out[i].name = name
		info, err := os.Stat(name)
		if err != nil {
			out[i].fault = err.Error()
			continue
		}
		out[i].size, out[i].time, out[i].inode = info.Size(), info.ModTime().UnixNano(), inode(info)
	}
	return out
}

// inode is the number of a file on its file system: one that was put in the place
// of another has another.
func inode(info os.FileInfo) uint64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Ino
	}
	return 0
}

// loadPlaybooks reads what is in force from the beginning.
func (c *Controller) loadPlaybooks() error {
	c.reloads.seen = c.files()
	set, err := c.cfg.LoadPlaybooks()
	if err != nil {
		return err
	}
	c.playbooks, c.reloads.status = playbook.NewLive(set), c.playbookStatus(set)
	return nil
}

func (c *Controller) playbookStatus(set *playbook.Set) api.PlaybookStatus {
	s := api.PlaybookStatus{Version: set.Version(), Playbooks: len(set.Playbooks()), Loaded: time.Now().UTC()}
	for _, f := range c.reloads.seen {
		s.Files = append(s.Files, f.name)
	}
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
func (c *Controller) ReloadPlaybooks(_ context.Context, who string) (api.PlaybookStatus, error) {
	c.reloads.turn.Lock()
	defer c.reloads.turn.Unlock()
	seen := c.files() // before they are read: what comes later is another change
	set, err := c.cfg.LoadPlaybooks()
	if err == nil {
		err = probe.Check(probesOf(set.Playbooks()))
	}
	before := c.playbooks.Current().Version()
	c.reloads.mu.Lock()
	c.reloads.seen = seen
	c.reloads.mu.Unlock()
	if err != nil {
		return c.Playbooks(), c.keepPlaybooks(who, err)
	}
	if err := c.probes.Replace(probesOf(set.Playbooks())); err != nil {
		return c.Playbooks(), c.keepPlaybooks(who, err)
	}
	c.playbooks.Replace(set)
	c.reloads.mu.Lock()
	c.reloads.status = c.playbookStatus(set)
	status := c.reloads.status
	c.reloads.mu.Unlock()
	c.log.WithFields(logrus.Fields{"who": who, "version": set.Version(), "before": before, "playbooks": status.Playbooks}).Warn("playbooks read again")
	c.audit.record(audit.Event{What: "playbooks.reloaded", Who: who, Detail: map[string]string{"version": set.Version(), "before": before, "playbooks": fmt.Sprint(status.Playbooks)}})
	return status, nil
}

// keepPlaybooks says why those in force stay.
func (c *Controller) keepPlaybooks(who string, err error) error {
	c.reloads.mu.Lock()
	c.reloads.status.Error, c.reloads.status.Failed = err.Error(), time.Now().UTC()
	version := c.reloads.status.Version
	c.reloads.mu.Unlock()
	var faults strictyaml.Errors
	log := c.log.WithFields(logrus.Fields{"who": who, "version": version})
	if !errors.As(err, &faults) {
		log.WithError(err).Error("playbooks cannot be read; those in force stay")
	}
	for _, f := range faults { // one line each, as editors take them
		log.Errorf("playbooks have faults; those in force stay: %s", f)
	}
	c.audit.record(audit.Event{What: "playbooks.refused", Who: who, Why: err.Error(), Detail: map[string]string{"version": version}})
	return fmt.Errorf("playbooks of version %s stay in force: %w", version, err)
}

// watchPlaybooks reads the files again when they have changed, and when it is told
// to.
func (c *Controller) watchPlaybooks(ctx context.Context) error {
	tick := time.NewTicker(lookAtPlaybooks)
	defer tick.Stop()
	var last []fileState
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.opts.Reload:
			_, _ = c.ReloadPlaybooks(ctx, "signal") // which says what is wrong
			last = nil
		case <-tick.C:
			if !c.cfg.PlaybookWatch {
				continue
			}
			now := c.files()
			c.reloads.mu.Lock()
			changed := !slices.Equal(now, c.reloads.seen)
			c.reloads.mu.Unlock()
			if changed && slices.Equal(now, last) {
				_, _ = c.ReloadPlaybooks(ctx, "change of files")
			}
			last = now
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
