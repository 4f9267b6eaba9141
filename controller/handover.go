package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/controller/audit"
	"github.com/platelet-sdn/platelet/controller/bus"
	"github.com/platelet-sdn/platelet/controller/response/run"
)

const (
	// leaseEvery is how often a controller says in a shared state that it lives,
	// and leaseTerm after how long of silence the others take it for gone: a few
	// times that it may have been late.
	leaseEvery = 2 * time.Second
	leaseTerm  = 4 * leaseEvery
)

// lifeSign is what a controller writes down for others who share its state. Nobody's
// clock is compared with another's: a sign that does not change is silence.
type lifeSign struct {
	Who  string `json:"who"`
	Beat uint64 `json:"beat"`
	// Bridges are the datapaths that it holds. Who holds all of them afterwards
	// goes on with its runs of playbooks.
	Bridges []uint64 `json:"bridges,omitempty"`
	// TakenBy is who does, once it was found to be gone.
	TakenBy string `json:"taken_by,omitempty"`
}

// handover looks after the runs of controllers that share a state. Each run is its
// owner's alone; the write by which it changes hands is refused to all but one, and
// so is every later write of the owner before (bus.Ledger).
type handover struct {
	c      *Controller
	leases *bus.Ledger
	id     string
	own    lifeSign
	heard  map[string]heard
	done   map[string]bool // whose runs were taken by this process
}

// heard is a sign of life and since when there was no other.
type heard struct {
	sign  string
	since time.Time
}

func newHandover(ctx context.Context, c *Controller, state *bus.Bus) (*handover, error) {
	leases, err := state.Ledger(ctx, "leases")
	if err != nil {
		return nil, err
	}
	me := c.fleet.instance
	return &handover{c: c, leases: leases, id: me.ID, own: lifeSign{Who: me.Who}, heard: map[string]heard{}, done: map[string]bool{}}, nil
}

// run says that we live, and looks who does not, until ctx ends.
func (h *handover) run(ctx context.Context) error {
	tick := time.NewTicker(leaseEvery)
	defer tick.Stop()
	for {
		if err := h.round(ctx, time.Now()); err != nil && ctx.Err() == nil {
			h.c.log.WithError(err).Warn("the state that controllers share cannot be reached; nothing is taken over")
			clear(h.heard) // silence of the state is not that of others
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (h *handover) round(ctx context.Context, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, leaseEvery)
	defer cancel()
	held := h.c.fleet.held()
	if err := h.renew(ctx, held); err != nil {
		return err
	}
	signs := map[string][]byte{}
	if _, err := h.leases.Claim(ctx, func(id string, raw []byte) ([]byte, bool) {
		signs[id] = raw
		return nil, false
	}); err != nil {
		return err
	}
	for id, raw := range signs {
		if id != h.id {
			h.look(ctx, id, raw, held, now)
		}
	}
	return nil
}

// renew says that we live. Somebody who took us for gone has our runs by now, and
// theirs they stay.
func (h *handover) renew(ctx context.Context, held []uint64) error {
	h.own.Beat++
	h.own.Bridges = held
	raw, err := json.Marshal(h.own)
	if err != nil {
		return err
	}
	err = h.leases.Put(ctx, h.id, raw)
	if !errors.Is(err, bus.ErrTaken) {
		return err
	}
	_, err = h.leases.Claim(ctx, func(id string, was []byte) ([]byte, bool) {
		var s lifeSign
		if id == h.id && json.Unmarshal(was, &s) == nil && s.TakenBy != "" {
			h.c.log.WithField("by", s.TakenBy).Warn("another controller took us for gone, and our runs of playbooks over")
		}
		return raw, id == h.id
	})
	return err
}

// look takes the runs of a controller over that has been silent for its term, and
// whose bridges are ours by now.
func (h *handover) look(ctx context.Context, id string, raw []byte, held []uint64, now time.Time) {
	if h.heard[id].sign != string(raw) {
		h.heard[id] = heard{string(raw), now}
	}
	var s lifeSign
	if err := json.Unmarshal(raw, &s); err != nil {
		return
	}
	log := h.c.log.WithFields(logrus.Fields{"of": id, "who": s.Who})
	silent := now.Sub(h.heard[id].since) >= leaseTerm
	switch {
	case s.TakenBy == h.id && !h.done[id]: // perhaps not to the end
	case s.TakenBy != "" || !silent || !holdsAll(held, s.Bridges):
		return
	default:
		s.TakenBy = h.id
		next, err := json.Marshal(s)
		if err != nil {
			return
		}
		taken, err := h.leases.Claim(ctx, func(key string, now []byte) ([]byte, bool) {
			return next, key == id && string(now) == string(raw)
		})
		if err != nil || taken[id] == nil {
			return // it lives, or somebody else was quicker
		}
	}
	open, err := h.c.runs.Take(ctx, id)
	if err != nil {
		log.WithError(err).Error("runs of playbooks of a controller that is gone could not all be taken over")
		return // done is not set: the next round goes on
	}
	h.done[id] = true
	log.WithField("runs", open).Warn("runs of playbooks of a controller that is gone taken over")
	h.c.audit.record(audit.Event{What: "runs.taken", Who: "platelet", Why: fmt.Sprintf("%s has been silent for %s, and its bridges are ours", s.Who, leaseTerm),
		Detail: map[string]string{"of": id, "runs": fmt.Sprint(open)}})
}

// holdsAll reports whether all of some bridges are among those that are held; of
// somebody who held none nothing can be said.
func holdsAll(held, theirs []uint64) bool {
	return len(theirs) > 0 && !slices.ContainsFunc(theirs, func(b uint64) bool { return !slices.Contains(held, b) })
}

// held lists the datapaths that are claimed for us.
func (f *fleet) held() (list []uint64) {
	for _, s := range f.status() {
		if s.Claim != 0 && s.DatapathID != 0 {
			list = append(list, s.DatapathID)
		}
	}
	slices.Sort(list)
	return list
}

// runStore is a ledger in the words of the executor.
type runStore struct{ *bus.Ledger }

// Put implements run.Store.
func (s runStore) Put(ctx context.Context, key string, value []byte) error {
	err := s.Ledger.Put(ctx, key, value)
	if errors.Is(err, bus.ErrTaken) {
		return fmt.Errorf("%w: %w", run.ErrTaken, err)
	}
	return err
}
