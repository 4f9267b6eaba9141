package telemetry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/platelet-sdn/platelet/controller/ovsdb"
)

// Ensure brings a bridge's telemetry to the settings and says what is in
// force. Without anything to change it costs no transaction, so it may be
// called on every change of the database.
func (d *Driver) Ensure(ctx context.Context, bridge string, s Settings) (Applied, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var a Applied
	err := retry(func() (err error) {
		a, err = d.ensure(ctx, bridge, s)
		return err
	})
	if err != nil {
		return Applied{}, fmt.Errorf("set up telemetry of %s: %w", bridge, err)
	}
	return a, nil
}

func (d *Driver) ensure(ctx context.Context, bridge string, s Settings) (Applied, error) {
	t, b, err := d.look(bridge)
	if err != nil {
		return Applied{}, err
	}
	var a Applied
	if stale := outdated(t, b, s); len(stale) > 0 {
		a.Changed = true
		// Templates are sent again only when vswitchd has seen the set
		// gone, so this is a transaction of its own.
		if err := d.remove(ctx, stale); err != nil {
			return Applied{}, err
		}
		if t, b, err = d.look(bridge); err != nil {
			return Applied{}, err
		}
	}
	db, err := d.db.DB()
	if err != nil {
		return Applied{}, err
	}
	c := &change{db: db}
	a.LeftAlone = leftAlone(t, b)
	if err := d.ensureSFlow(ctx, c, &a, t, b, s); err != nil {
		return Applied{}, err
	}
	ensureSet(c, &a, t, b, s)
	if c.err != nil || len(c.ops) == 0 {
		return a, c.err
	}
	a.Changed = true
	if a.Created {
		d.settle(ctx)
	}
	_, err = d.db.Commit(ctx, c.ops...)
	return a, err
}

// ensureSFlow plans the sFlow row of a bridge.
func (d *Driver) ensureSFlow(ctx context.Context, c *change, a *Applied, t *ovsdb.Tables, b *ovsdb.Bridge, s Settings) error {
	row := sFlowOf(t, b)
	switch {
	case s.SFlowTarget == "":
		if row != nil && ours(row.ExternalIDs) {
			return giveBack(c, t, b, row)
		}
	case row == nil:
		a.SFlow = true
		addSFlow(c, b, s, nil)
	case !ours(row.ExternalIDs) && !s.TakeForeign:
		a.LeftAlone = append(a.LeftAlone, LeftAlone{"sFlow", "not ours: " + describe(row.Targets, row.Sampling)})
	case !ours(row.ExternalIDs):
		a.SFlow = true
		previous, err := d.save(ctx, c, row.UUID)
		if err != nil {
			return err
		}
		addSFlow(c, b, s, previous)
	case row.ExternalIDs[previousKey] != "" && !s.TakeForeign:
		// Taken by an earlier process that was allowed to.
		a.LeftAlone = append(a.LeftAlone, LeftAlone{"sFlow", "not ours: given back to its owner"})
		return giveBack(c, t, b, row)
	default:
		a.SFlow = true
		if next := s.sFlow(row.ExternalIDs); !sameSFlow(row, next) {
			next.UUID = row.UUID
			c.unchanged(row, &row.ExternalIDs)
			c.add(c.db.Where(next).Update(next, &next.Targets, &next.Sampling, &next.Polling, &next.Header, &next.Agent))
		}
	}
	return nil
}

// addSFlow creates our sFlow row and points the bridge to it.
func addSFlow(c *change, b *ovsdb.Bridge, s Settings, previous map[string]string) {
	ids := map[string]string{ownerKey: owner}
	maps.Copy(ids, previous)
	row := s.sFlow(ids)
	row.UUID = "pl_sflow"
	c.insert(row)
	c.setSFlow(b, &row.UUID)
}

// sFlow is the row that the settings ask for.
func (s Settings) sFlow(externalIDs map[string]string) *ovsdb.SFlow {
	row := &ovsdb.SFlow{Targets: []string{s.SFlowTarget}, ExternalIDs: externalIDs}
	for _, column := range []struct {
		to    **int
		value int
	}{{&row.Sampling, s.Sampling}, {&row.Polling, s.Polling}, {&row.Header, s.Header}} {
		if column.value > 0 { // zero leaves it to the switch's default
			*column.to = &column.value
		}
	}
	if s.Agent != "" {
		row.Agent = &s.Agent
	}
	return row
}

func sameSFlow(a, b *ovsdb.SFlow) bool {
	return slices.Equal(a.Targets, b.Targets) && same(a.Sampling, b.Sampling) &&
		same(a.Polling, b.Polling) && same(a.Header, b.Header) && same(a.Agent, b.Agent)
}

func same[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// ensureSet plans the collector set of a bridge; what is there is up to date.
func ensureSet(c *change, a *Applied, t *ovsdb.Tables, b *ovsdb.Bridge, s Settings) {
	if s.IPFIXTarget == "" {
		return
	}
	if sets := setsOf(t, b); len(sets) > 0 {
		a.CollectorSetID = uint32(sets[0].ID)
	} else {
		a.CollectorSetID, a.Created = freeSet(t, b, s.setID()), true
		c.addSet(b.UUID, int(a.CollectorSetID), s)
	}
	if a.CollectorSetID != s.setID() {
		a.LeftAlone = append(a.LeftAlone, LeftAlone{
			fmt.Sprintf("collector set %d", s.setID()), fmt.Sprintf("not ours: %d is used instead", a.CollectorSetID)})
	}
}

func (s Settings) setID() uint32 { return cmp.Or(s.CollectorSetID, DefaultCollectorSetID) }

// setsOf lists our collector sets on a bridge by ID. There is one, unless two
// controllers were at work.
func setsOf(t *ovsdb.Tables, b *ovsdb.Bridge) []*ovsdb.FlowSampleCollectorSet {
	var sets []*ovsdb.FlowSampleCollectorSet
	for _, set := range t.CollectorSets {
		if set.Bridge == b.UUID && ours(set.ExternalIDs) {
			sets = append(sets, set)
		}
	}
	slices.SortFunc(sets, func(a, b *ovsdb.FlowSampleCollectorSet) int { return a.ID - b.ID })
	return sets
}

// outdated lists our collector sets that do not match the settings. Changing
// them in place would not do: the exporter would not send its templates to a
// new target.
func outdated(t *ovsdb.Tables, b *ovsdb.Bridge, s Settings) []*ovsdb.FlowSampleCollectorSet {
	sets := setsOf(t, b)
	keep := slices.IndexFunc(sets, func(set *ovsdb.FlowSampleCollectorSet) bool {
		if s.IPFIXTarget == "" || set.IPFIX == nil || set.ExternalIDs[requestedKey] != fmt.Sprint(s.setID()) {
			return false
		}
		row := t.IPFIXes[*set.IPFIX]
		return row != nil && slices.Equal(row.Targets, []string{s.IPFIXTarget}) &&
			same(row.ObsDomainID, pointer(int(s.Domain))) && row.CacheActiveTimeout == nil && row.CacheMaxFlows == nil
	})
	if keep < 0 {
		return sets
	}
	return slices.Delete(sets, keep, keep+1)
}

// freeSet is the first collector set ID from the one asked for that nobody
// uses on the bridge.
func freeSet(t *ovsdb.Tables, b *ovsdb.Bridge, id uint32) uint32 {
	used := map[uint32]bool{0: true} // zero stands for none in Applied
	for _, set := range t.CollectorSets {
		if set.Bridge == b.UUID && set.ID >= 0 && set.ID <= math.MaxUint32 {
			used[uint32(set.ID)] = true
		}
	}
	for used[id] {
		id++
	}
	return id
}

// remove deletes collector sets and waits until they are gone from the switch.
// A switch that is away does not know them when it comes back.
func (d *Driver) remove(ctx context.Context, sets []*ovsdb.FlowSampleCollectorSet) error {
	db, err := d.db.DB()
	if err != nil {
		return err
	}
	c := &change{db: db}
	for _, set := range sets {
		c.removeSet(set)
	}
	if c.err != nil {
		return c.err
	}
	return d.commitApplied(ctx, c)
}

// commitApplied commits and gives vswitchd a bounded time to follow.
func (d *Driver) commitApplied(ctx context.Context, c *change) error {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	err := d.db.CommitApplied(ctx, c.ops...)
	if errors.Is(err, ovsdb.ErrNotApplied) {
		d.log.WithError(err).Warn("telemetry change is committed but not confirmed")
		return nil
	}
	return err
}

// leftAlone lists exports of others that we never touch.
func leftAlone(t *ovsdb.Tables, b *ovsdb.Bridge) []LeftAlone {
	var left []LeftAlone
	if b.IPFIX != nil {
		if row := t.IPFIXes[*b.IPFIX]; row != nil {
			left = append(left, LeftAlone{"IPFIX of the bridge", "not ours: " + describe(row.Targets, row.Sampling)})
		}
	}
	if b.NetFlow != nil {
		if row := t.NetFlows[*b.NetFlow]; row != nil {
			left = append(left, LeftAlone{"NetFlow", "not ours: " + describe(row.Targets, nil)})
		}
	}
	return left
}

// requested is the ID a collector set of ours was asked for with.
func requested(set *ovsdb.FlowSampleCollectorSet) uint32 {
	id, err := strconv.ParseUint(set.ExternalIDs[requestedKey], 10, 32)
	if err != nil {
		return uint32(set.ID)
	}
	return uint32(id)
}
