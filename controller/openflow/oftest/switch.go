package oftest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	of "github.com/platelet-sdn/platelet/controller/openflow"
)

// tables is how many tables there are; Open vSwitch keeps the last one for
// itself.
const tables = 254

// Config describes a virtual switch.
type Config struct {
	// Ports exist, and are up until SetPort says otherwise.
	Ports []uint32
	// Now is the clock of timeouts, meters and connections; nil is time.Now.
	Now func() time.Time
	// ZoneLimit is how many connections each zone takes; 0 is no limit.
	ZoneLimit int
}

// Switch is a virtual OpenFlow switch. It is not safe for concurrent use.
type Switch struct {
	cfg     Config
	ports   map[uint32]bool // whether they are up
	tables  [tables]table
	groups  map[uint32]*of.Group
	meters  map[uint32]*meter
	tracker *tracker
	removed []of.FlowRemoved
	serial  uint64
}

// New returns a switch without flows, which drops every packet.
func New(cfg Config) *Switch {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Switch{cfg: cfg, ports: map[uint32]bool{}, groups: map[uint32]*of.Group{}, meters: map[uint32]*meter{},
		tracker: newTracker(cfg.ZoneLimit)}
	for _, p := range cfg.Ports {
		s.ports[p] = true
	}
	return s
}

// SetPort adds a port or changes whether it is up.
func (s *Switch) SetPort(port uint32, up bool) { s.ports[port] = up }

// RemovePort takes a port away.
func (s *Switch) RemovePort(port uint32) { delete(s.ports, port) }

// Rules returns a copy of every flow, by table and falling priority.
func (s *Switch) Rules() []Rule {
	s.expire()
	var out []Rule
	for i := range s.tables {
		for _, r := range s.tables[i].rules {
			out = append(out, *r)
		}
	}
	return out
}

// Removed returns the flow-removed messages since it was last called.
func (s *Switch) Removed() []of.FlowRemoved {
	s.expire()
	out := s.removed
	s.removed = nil
	return out
}

// expire ends the flows whose time is up.
func (s *Switch) expire() {
	now := s.cfg.Now()
	for i := range s.tables {
		for _, r := range slices.Clone(s.tables[i].rules) {
			switch {
			case r.HardTimeout != 0 && now.Sub(r.Modified) > time.Duration(r.HardTimeout)*time.Second:
				s.remove(r, of.RemovedHard)
			case r.IdleTimeout != 0 && now.Sub(r.Used) > time.Duration(r.IdleTimeout)*time.Second:
				s.remove(r, of.RemovedIdle)
			}
		}
	}
}

func (s *Switch) remove(r *Rule, why of.RemovedReason) {
	if !slices.Contains(s.tables[r.Table].rules, r) {
		return // went with what taught it
	}
	s.tables[r.Table].remove(r)
	s.forget(r.Actions)
	if r.Flags&of.FlagSendFlowRemoved == 0 {
		return
	}
	s.removed = append(s.removed, of.FlowRemoved{
		Reason: why, Table: r.Table, Priority: r.Priority, Cookie: r.Cookie, IdleTimeout: r.IdleTimeout, HardTimeout: r.HardTimeout,
		Duration: s.cfg.Now().Sub(r.Created), Packets: r.Packets, Bytes: r.Bytes, Match: r.Match,
	})
}

// refuse returns the error that the switch sends.
func refuse(errorType, code uint16) error { return &of.Error{Type: errorType, Code: code} }

// FlowMod carries out a flow-mod (section 6.4). Its error is one of
// Validate's or the *openflow.Error that the switch would send; the tables
// are as before then.
func (s *Switch) FlowMod(m of.FlowMod) error {
	s.expire()
	if err := m.Validate(); err != nil {
		return err
	}
	if m.Table >= tables && m.Table != of.TableAll {
		return refuse(of.ErrorTypeFlowModFailed, 2) // BAD_TABLE_ID
	}
	switch m.Command {
	case of.Add:
		return s.add(&m)
	case of.Modify, of.ModifyStrict:
		rules := s.selected(&m)
		if len(rules) == 0 {
			return nil // whatever it asks for
		}
		if err := s.checkInstructions(&m.Flow); err != nil {
			return err
		}
		for _, r := range rules {
			s.change(r, &m)
		}
	case of.Delete, of.DeleteStrict:
		for _, r := range s.selected(&m) {
			s.remove(r, of.RemovedDelete)
		}
	}
	return nil
}

func (s *Switch) newRule(f *of.Flow) *Rule {
	now := s.cfg.Now()
	s.serial++
	r := &Rule{Flow: *f, Created: now, Modified: now, Used: now, key: f.Key(), terms: terms(f.Match), serial: s.serial}
	r.setClauses()
	return r
}

func (r *Rule) setClauses() {
	r.clauses = nil
	for _, a := range r.Actions {
		if c, ok := a.(of.Conjunction); ok {
			r.clauses = append(r.clauses, c)
		}
	}
}

// add puts a flow in its table, in the place of one with the same match and
// priority, whosever that is.
func (s *Switch) add(m *of.FlowMod) error {
	if err := s.checkInstructions(&m.Flow); err != nil {
		return err
	}
	t := &s.tables[m.Table]
	r, replaced := s.newRule(&m.Flow), t.find(m.Key())
	switch old := replaced; {
	case old != nil: // which is no overlap
		if m.Flags&of.FlagResetCounts == 0 {
			r.Packets, r.Bytes = old.Packets, old.Bytes
		}
		t.remove(old)
	case m.Flags&of.FlagCheckOverlap != 0:
		for _, o := range t.rules {
			if o.Priority == r.Priority && overlaps(o.terms, r.terms) {
				return refuse(of.ErrorTypeFlowModFailed, 3) // OVERLAP
			}
		}
	}
	t.insert(r)
	if replaced != nil {
		s.forget(replaced.Actions)
	}
	return nil
}

// change gives a flow other instructions; its cookie, timeouts and flags
// stay, its counters too unless FlagResetCounts is set.
func (s *Switch) change(r *Rule, m *of.FlowMod) {
	before := r.Actions
	r.Instructions = m.Instructions
	r.setClauses()
	s.forget(before)
	r.Modified = s.cfg.Now()
	if m.Flags&of.FlagResetCounts != 0 {
		r.Packets, r.Bytes = 0, 0
	}
}

// selected returns the flows that a modification or deletion is about.
func (s *Switch) selected(m *of.FlowMod) []*Rule {
	strict := m.Command == of.ModifyStrict || m.Command == of.DeleteStrict
	wide := terms(m.Match)
	var out []*Rule
	for i := range s.tables {
		if m.Table != of.TableAll && int(m.Table) != i {
			continue
		}
		for _, r := range s.tables[i].rules {
			if r.Cookie&m.CookieMask != m.Cookie&m.CookieMask || strict && r.Priority != m.Priority {
				continue
			}
			if within(r.terms, wide) && (!strict || within(wide, r.terms)) {
				out = append(out, r)
			}
		}
	}
	return out
}

// checkInstructions refuses what names something that is not there.
func (s *Switch) checkInstructions(f *of.Flow) error {
	if f.HasGoto && (f.Goto <= f.Table || f.Goto >= tables) {
		return refuse(3, 2) // BAD_INSTRUCTION BAD_TABLE_ID
	}
	if f.Meter != 0 && s.meters[f.Meter] == nil {
		return refuse(of.ErrorTypeMeterFailed, 2) // INVALID_METER
	}
	for _, list := range [][]of.Action{f.Actions, f.Write} {
		if err := s.checkActions(list); err != nil {
			return err
		}
	}
	return nil
}

// checkActions refuses actions that name a group that is not there, or that
// this package does not model.
func (s *Switch) checkActions(list []of.Action) error {
	for _, a := range list {
		switch a := a.(type) {
		case of.ToGroup:
			if s.groups[a.ID] == nil {
				return refuse(2, 9) // BAD_ACTION BAD_OUT_GROUP
			}
		case of.Conntrack:
			if a.NAT != nil || a.Alg != 0 {
				return fmt.Errorf("virtual switch: %s: address translation and helpers are not modelled", a)
			}
		case of.UnknownAction:
			return errors.New("virtual switch: an action that package openflow does not know")
		}
	}
	return nil
}

// Apply carries out a transaction as openflow.Conn does: wholly or not at
// all. Its error is a *openflow.TxError that names the member.
func (s *Switch) Apply(tx of.Tx) error {
	next := s.clone()
	if err := next.apply(&tx); err != nil {
		return err
	}
	*s = *next
	return nil
}

func (s *Switch) apply(tx *of.Tx) error {
	if err := tx.Validate(); err != nil {
		return err
	}
	for i, m := range tx.AddMeters {
		if err := s.MeterMod(of.MeterAdd, m); err != nil {
			return member("meter", i, m.String(), err)
		}
	}
	for i, m := range tx.ModifyMeters {
		if err := s.MeterMod(of.MeterModify, m); err != nil {
			return member("meter", len(tx.AddMeters)+i, m.String(), err)
		}
	}
	for i := range tx.Groups {
		if err := s.GroupMod(tx.Groups[i]); err != nil {
			return member("group", i, tx.Groups[i].String(), err)
		}
	}
	if err := s.flowMods(tx.Flows); err != nil {
		return err
	}
	for i, id := range tx.DeleteGroups {
		if s.groupInUse(id, tx.DeleteGroups) {
			return member("group", len(tx.Groups)+i, fmt.Sprintf("group_id=%d", id), of.ErrInUse)
		}
	}
	for _, id := range tx.DeleteGroups {
		delete(s.groups, id)
	}
	for i, id := range tx.DeleteMeters {
		if c, ok := s.MeterCounters(id); ok && c.Flows > 0 {
			return member("meter", len(tx.AddMeters)+len(tx.ModifyMeters)+i, fmt.Sprintf("meter=%d", id), of.ErrInUse)
		}
		delete(s.meters, id)
	}
	return nil
}

// errWideLate is for an order of flow-mods that Open vSwitch 3.1.0 gets wrong.
// A flow that a bundle adds, with a set of fields that the table has not seen
// before, is found by its exact match alone until the bundle is through: a
// wider deletion or modification behind it, or an overlap check, overlooks it.
var errWideLate = errors.New("a deletion, modification or overlap check behind an addition to the same table: Open vSwitch 3.1 overlooks new flows")

// flowMods carries out the flow-mods of a bundle.
func (s *Switch) flowMods(mods []of.FlowMod) error {
	var added [int(of.TableAll) + 1]bool
	for i := range mods {
		m := &mods[i]
		err := s.FlowMod(*m)
		wide := m.Command == of.Delete || m.Command == of.Modify || m.Command == of.Add && m.Flags&of.FlagCheckOverlap != 0
		if wide && added[m.Table] {
			err = errWideLate
		}
		if err != nil {
			return member("flow", i, m.String(), err)
		}
		if m.Command == of.Add {
			added[m.Table], added[of.TableAll] = true, true
		}
	}
	return nil
}

func member(kind string, i int, text string, err error) error {
	return &of.TxError{Members: []*of.MemberError{{Member: kind, Index: i, Text: text, Err: err}}}
}

// clone returns a switch that can be changed without this one noticing, but
// for its connections.
func (s *Switch) clone() *Switch {
	c := *s
	c.ports, c.groups, c.meters = maps.Clone(s.ports), maps.Clone(s.groups), maps.Clone(s.meters)
	c.removed = slices.Clone(s.removed)
	for i := range s.tables {
		c.tables[i].rules = make([]*Rule, len(s.tables[i].rules))
		for j, r := range s.tables[i].rules {
			own := *r
			c.tables[i].rules[j] = &own
		}
	}
	return &c
}
