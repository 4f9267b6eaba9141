package oftest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	of "github.com/platelet-sdn/platelet/controller/openflow"
	"pgregory.net/rapid"
)

// mod draws a change of a few flows in two tables, whose cookies, priorities
// and matches meet often.
func (g gen) mod() of.FlowMod {
	m := of.FlowMod{Command: of.Command(g.n("command", 4))}
	m.Table = uint8(g.n("table", 1))
	m.Priority = uint16(10 * g.n("priority", 2))
	m.Cookie = pick(g, "cookie", uint64(0x1100), 0x1101, 0x2200)
	if m.Command != of.Add {
		m.CookieMask = pick(g, "cookie mask", uint64(0), 0, 0xff00, ^uint64(0))
	}
	if m.Command >= of.Delete && g.chance("every table", 3) {
		m.Table = of.TableAll
	}
	if g.chance("flags", 3) {
		m.Flags = pick(g, "flag", of.FlagSendFlowRemoved, of.FlagCheckOverlap, of.FlagResetCounts)
	}
	if g.chance("timeout", 4) {
		m.HardTimeout, m.IdleTimeout = uint16(600*g.n("hard", 1)), uint16(300*g.n("idle", 1))
	}
	if g.chance("ip", 2) {
		m.Match = of.Match{of.EthType(EtherIPv4)}
		if g.chance("source", 2) {
			m.Match = append(m.Match, g.ipMatch(TCP(pick(g, "src", endpoints()...), endpoints()[0], SYN))...)
		}
	}
	if g.chance("in_port", 3) {
		m.Match = append(m.Match, of.InPort(pick(g, "port", ports[:2]...)))
	}
	if m.Command < of.Delete {
		m.Actions = g.modActions()
		if g.chance("goto", 6) {
			m.HasGoto, m.Goto = true, uint8(g.n("to", 2))
		}
		if g.chance("meter", 6) {
			m.Meter = uint32(1 + g.n("which", meterCount))
		}
	}
	return m
}

// modActions draws actions, some of which the switch refuses.
func (g gen) modActions() []of.Action {
	switch g.n("actions", 9) {
	case 0:
		return []of.Action{of.ToGroup{ID: uint32(1 + g.n("group", groupCount))}}
	case 1:
		return []of.Action{of.DecTTL{}, of.Output{Port: 2}}
	case 2:
		return []of.Action{of.Conjunction{ID: 1, Clause: 1, Of: 2}, of.Output{Port: 1}}
	case 3:
		return []of.Action{of.PopVLAN{}}
	case 4:
		return []of.Action{of.Output{Port: 0}}
	case 5:
		return []of.Action{of.Load{Dst: of.Whole(of.FieldTCPDst), Value: 80}}
	case 6:
		return []of.Action{of.Conntrack{Commit: true}}
	}
	return []of.Action{of.Output{Port: pick(g, "out", ports...)}}
}

// installed returns the flows of both switches, as text.
func (r *rig) installed(v *Switch) (virtual, real []string, err error) {
	stats, err := r.conn.Flows(r.ctx, of.FlowFilter{Table: of.TableAll})
	if err != nil {
		return nil, nil, err
	}
	for _, s := range stats {
		real = append(real, s.Flow.String())
	}
	for _, rule := range v.Rules() {
		virtual = append(virtual, rule.Flow.String())
	}
	slices.Sort(virtual)
	slices.Sort(real)
	return virtual, real, nil
}

// Random changes, alone or together, are carried out or refused alike, and
// leave the same flows.
func TestFlowModsAsOpenVSwitchTakesThem(t *testing.T) {
	r := newRig(t)
	v := New(Config{Ports: ports})
	r.furnish(v)
	refusals := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		g := gen{t: rt}
		if refused, err := r.program(v, nil); err != nil || refused != nil {
			rt.Fatal(refused, err)
		}
		var said []string
		for range 12 {
			var tx of.Tx
			said = append(said, "transaction")
			for range 1 + g.n("mods", 2) {
				m := g.mod()
				if len(tx.Flows) > 0 { // two checks would be one behind the other
					m.Flags &^= of.FlagCheckOverlap
				}
				if m.Command == of.Delete || m.Command == of.Modify || m.Flags&of.FlagCheckOverlap != 0 { // first, see errWideLate
					tx.Flows = append([]of.FlowMod{m}, tx.Flows...)
				} else {
					tx.Flows = append(tx.Flows, m)
				}
				said = append(said, fmt.Sprintf("command %d mask 0x%x flags %d: %s", m.Command, m.CookieMask, m.Flags, m.Flow.String()))
			}
			refused, err := r.commit(v, tx)
			if err != nil {
				rt.Fatalf("%v\n%s", err, strings.Join(said, "\n"))
			}
			if refused != nil {
				_, why, _ := strings.Cut(refusal(refused), ": ")
				refusals[why]++
				said = append(said, "refused")
			}
			virtual, real, err := r.installed(v)
			if err != nil {
				rt.Fatal(err)
			}
			if !slices.Equal(virtual, real) {
				rt.Fatalf("flows:\nvirtual\n%s\nreal\n%s\nafter\n%s", strings.Join(virtual, "\n"), strings.Join(real, "\n"), strings.Join(said, "\n"))
			}
		}
	})
	t.Log(refusals)
}
