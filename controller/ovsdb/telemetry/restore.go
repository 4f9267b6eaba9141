package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	libovsdb "github.com/ovn-kubernetes/libovsdb/ovsdb"

	"github.com/platelet-sdn/platelet/controller/ovsdb"
)

// previous is the sFlow row that ours replaced. The row is kept as the server
// gave it, with columns that this program does not know.
type previous struct {
	UUID string       `json:"uuid"`
	Row  libovsdb.Row `json:"row"`
}

// save reads a row in full, makes the transaction depend on it, and returns it
// in the form in which our row's external_ids keep it. It has to be a copy:
// the database drops a row as soon as nothing refers to it.
func (d *Driver) save(ctx context.Context, c *change, id string) (map[string]string, error) {
	results, err := d.db.Commit(ctx, libovsdb.Operation{Op: libovsdb.OperationSelect, Table: "sFlow", Where: byUUID(id)})
	if err != nil {
		return nil, fmt.Errorf("read the sFlow row to replace: %w", err)
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return nil, ovsdb.ErrChanged
	}
	row := results[0].Rows[0]
	delete(row, "_uuid")
	delete(row, "_version")
	now := 0
	c.ops = append(c.ops, libovsdb.Operation{
		Op: libovsdb.OperationWait, Table: "sFlow", Where: byUUID(id), Timeout: &now,
		Until: string(libovsdb.WaitConditionEqual), Columns: slices.Collect(maps.Keys(row)), Rows: []libovsdb.Row{row},
	})
	text, err := json.Marshal(previous{UUID: id, Row: row})
	if err != nil {
		return nil, fmt.Errorf("save the sFlow row to replace: %w", err)
	}
	return map[string]string{previousKey: string(text)}, nil
}

// giveBack plans the end of our sFlow row: the row that it replaced comes
// back, or nothing where nothing was.
func giveBack(c *change, t *ovsdb.Tables, b *ovsdb.Bridge, row *ovsdb.SFlow) error {
	text := row.ExternalIDs[previousKey]
	if text == "" {
		c.setSFlow(b, nil)
		return nil
	}
	var p previous
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return fmt.Errorf("read the saved sFlow row: %w", err)
	}
	// Another bridge may have kept the very row alive.
	if old := t.SFlows[p.UUID]; old != nil {
		c.unchanged(old, &old.ExternalIDs)
		c.setSFlow(b, &p.UUID)
		return nil
	}
	name := "pl_previous"
	c.ops = append(c.ops, libovsdb.Operation{Op: libovsdb.OperationInsert, Table: "sFlow", Row: p.Row, UUIDName: name})
	c.setSFlow(b, &name)
	return nil
}

// Restore removes what is ours from a bridge and puts back what was there
// before. What somebody else configured meanwhile stays. Doing it twice, or
// for a bridge that is gone, does no harm.
func (d *Driver) Restore(ctx context.Context, bridge string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := retry(func() error { return d.restore(ctx, bridge) })
	if errors.Is(err, ErrNoBridge) {
		err = retry(func() error { return d.sweep(ctx) })
	}
	if err != nil {
		return fmt.Errorf("restore telemetry of %s: %w", bridge, err)
	}
	return nil
}

// Sweep removes our collector sets from bridges that were deleted. It is
// urgent: such a set keeps the row of its bridge in the database, and as long
// as that is there nobody can create a bridge of that name again.
func (d *Driver) Sweep(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := retry(func() error { return d.sweep(ctx) }); err != nil {
		return fmt.Errorf("remove collector sets of deleted bridges: %w", err)
	}
	return nil
}

func (d *Driver) sweep(ctx context.Context) error {
	t, err := d.db.Tables()
	if err != nil {
		return err
	}
	db, err := d.db.DB()
	if err != nil {
		return err
	}
	c := &change{db: db}
	for _, set := range t.CollectorSets {
		if ours(set.ExternalIDs) && t.Bridges[set.Bridge] == nil {
			c.removeSet(set)
		}
	}
	if c.err != nil || len(c.ops) == 0 {
		return c.err
	}
	_, err = d.db.Commit(ctx, c.ops...)
	return err
}

func (d *Driver) restore(ctx context.Context, bridge string) error {
	t, b, err := d.look(bridge)
	if err != nil {
		return err
	}
	db, err := d.db.DB()
	if err != nil {
		return err
	}
	c := &change{db: db}
	if row := sFlowOf(t, b); row != nil && ours(row.ExternalIDs) {
		if err := giveBack(c, t, b, row); err != nil {
			return err
		}
	}
	for _, set := range setsOf(t, b) {
		c.removeSet(set)
	}
	if c.err != nil || len(c.ops) == 0 {
		return c.err
	}
	// Applied, so that the next process to create a set gets templates.
	return d.commitApplied(ctx, c)
}

// Refresh has the switch send its IPFIX templates again, which it otherwise
// does every ten minutes: a collector that has just started cannot decode
// anything before. The collector set keeps its ID; for the few milliseconds
// of the exchange the tap is silent.
func (d *Driver) Refresh(ctx context.Context, bridge string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.refresh(ctx, bridge); err != nil {
		return fmt.Errorf("refresh IPFIX templates of %s: %w", bridge, err)
	}
	return nil
}

func (d *Driver) refresh(ctx context.Context, bridge string) error {
	var set *ovsdb.FlowSampleCollectorSet
	var s Settings
	var home string
	err := retry(func() error {
		t, b, err := d.look(bridge)
		if err != nil {
			return err
		}
		sets := setsOf(t, b)
		if len(sets) == 0 || sets[0].IPFIX == nil || t.IPFIXes[*sets[0].IPFIX] == nil {
			return ErrNotOurs
		}
		set, home = sets[0], b.UUID
		s = settingsOf(set, t.IPFIXes[*set.IPFIX])
		return d.remove(ctx, sets)
	})
	if err != nil {
		return err
	}
	db, err := d.db.DB()
	if err != nil {
		return err
	}
	c := &change{db: db}
	c.addSet(home, set.ID, s)
	if c.err != nil {
		return c.err
	}
	_, err = d.db.Commit(ctx, c.ops...)
	return err
}

// settingsOf recovers the settings of a collector set from its rows.
func settingsOf(set *ovsdb.FlowSampleCollectorSet, row *ovsdb.IPFIX) Settings {
	s := Settings{CollectorSetID: requested(set)}
	if len(row.Targets) > 0 {
		s.IPFIXTarget = row.Targets[0]
	}
	if row.ObsDomainID != nil {
		s.Domain = uint32(*row.ObsDomainID)
	}
	return s
}
