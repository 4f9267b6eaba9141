package openflow

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// drawGroup draws a group that may be sound or not; groups 1 to 3 exist.
func drawGroup(t *rapid.T, id uint32) Group {
	g := Group{ID: id, Type: GroupType(rapid.IntRange(0, 4).Draw(t, "type"))}
	for range rapid.IntRange(0, 3).Draw(t, "buckets") {
		k := Bucket{Actions: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Action { return drawAction(t, 0) }), 0, 3).Draw(t, "actions")}
		if rapid.Bool().Draw(t, "weighs") == (g.Type == GroupSelect) {
			k.Weight = rapid.SampledFrom([]uint16{0, 1, 50}).Draw(t, "weight")
		}
		if rapid.Bool().Draw(t, "watches") == (g.Type == GroupFastFailover) {
			k.WatchPort = rapid.SampledFrom([]uint32{0, 1, PortLocal}).Draw(t, "port")
			k.WatchGroup = rapid.SampledFrom([]uint32{0, 2}).Draw(t, "group")
		}
		g.Buckets = append(g.Buckets, k)
	}
	return g
}

// On random groups too, the switch takes what Validate takes, and gives it
// back.
func TestGroupsAgainstTheSwitch(t *testing.T) {
	ctx, _, target := realSwitch(t, "plgroups")
	c, err := Dial(ctx, target)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	rapid.Check(t, func(t *rapid.T) {
		mods := []GroupMod{{Command: GroupDelete, Group: Group{ID: GroupEvery}}}
		for id := range uint32(3) {
			mods = append(mods, GroupMod{Group: Group{ID: id + 1}})
		}
		// The samples name group 9.
		mods = append(mods, GroupMod{Group: Group{ID: 9}})
		given := len(mods)
		for range rapid.IntRange(1, 10).Draw(t, "groups") {
			mods = append(mods, GroupMod{Group: drawGroup(t, uint32(len(mods)+100))})
		}
		first := uint32(0)
		errs, err := c.sendChecked(ctx, len(mods), func(b []byte, i int, xid uint32) []byte {
			if i == 0 {
				first = xid
			}
			b, err := mods[i].append(b, xid)
			if err != nil {
				t.Fatal(err)
			}
			return b
		})
		if err != nil {
			t.Fatal(err)
		}
		groups, err := c.Groups(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for i := given; i < len(mods); i++ {
			g, verdict := &mods[i].Group, "nothing wrong"
			at := slices.IndexFunc(groups, func(x Group) bool { return x.ID == g.ID })
			if e := slices.IndexFunc(errs, func(e *Error) bool { return e.XID == first+uint32(i) }); e >= 0 {
				verdict = errs[e].Error()
			} else if at < 0 {
				verdict = "nothing, but forgets it"
			} else if groups[at].Key() != g.Key() {
				verdict = "nothing, but made of it " + groups[at].String()
			}
			if invalid := g.Validate(); (invalid == nil) != (verdict == "nothing wrong") && !stricter(invalid) {
				t.Errorf("%s\nwe say %v, the switch says %s", g, invalid, verdict)
			}
		}
	})
}

// And on random meters.
func TestMetersAgainstTheSwitch(t *testing.T) {
	ctx, _, target := realSwitch(t, "plmeters")
	c, err := Dial(ctx, target)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	rapid.Check(t, func(t *rapid.T) {
		m := Meter{
			ID: rapid.SampledFrom([]uint32{0, 1, 5, 60000}).Draw(t, "id"), Flags: rapid.Uint16Range(0, 31).Draw(t, "flags"),
			Rate: rapid.SampledFrom([]uint32{0, 1, 1000, 1<<32 - 1}).Draw(t, "rate"), Burst: rapid.SampledFrom([]uint32{0, 1, 1<<32 - 1}).Draw(t, "burst"),
		}
		errs, err := c.sendChecked(ctx, 2, func(b []byte, i int, xid uint32) []byte {
			if i == 0 {
				return appendMeterMod(b, xid, MeterDelete, Meter{ID: MeterAll})
			}
			return appendMeterMod(b, xid, MeterAdd, m)
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Meters(ctx)
		if err != nil {
			t.Fatal(err)
		}
		m.Bands = 1
		if (m.Flags&MeterBurst == 0 || m.Burst == 0) && len(got) == 1 {
			m.Burst = got[0].Burst // of the switch's own choice
		}
		taken := len(errs) == 0 && len(got) == 1 && got[0] == m
		if invalid := m.Validate(); (invalid == nil) != taken {
			t.Errorf("%#v\nwe say %v, the switch says %v and has %#v", m, invalid, errs, got)
		}
	})
}
