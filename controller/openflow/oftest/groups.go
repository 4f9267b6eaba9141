package oftest

import (
	"slices"

	of "github.com/platelet-sdn/platelet/controller/openflow"
)

// Codes of GROUP_MOD_FAILED (section 7.5.4).
const (
	errorGroupMod uint16 = 6
	groupExists   uint16 = 0
	groupUnknown  uint16 = 8
)

// GroupMod adds, changes or deletes a group. Deleting one deletes every flow
// that names it.
func (s *Switch) GroupMod(m of.GroupMod) error {
	s.expire()
	if err := m.Validate(); err != nil {
		return err
	}
	switch m.Command {
	case of.GroupAdd:
		if s.groups[m.ID] != nil {
			return refuse(errorGroupMod, groupExists)
		}
	case of.GroupModify:
		if s.groups[m.ID] == nil {
			return refuse(errorGroupMod, groupUnknown)
		}
	case of.GroupDelete:
		s.deleteGroup(m.ID)
		return nil
	}
	for i := range m.Buckets {
		if err := s.checkActions(m.Buckets[i].Actions); err != nil {
			return err
		}
	}
	g := m.Group
	s.groups[m.ID] = &g
	return nil
}

func (s *Switch) deleteGroup(id uint32) {
	for g := range s.groups {
		if g != id && id != of.GroupEvery {
			continue
		}
		delete(s.groups, g)
		for _, r := range s.groupUsers(g) {
			s.remove(r, of.RemovedGroupDelete)
		}
	}
}

func namesGroup(list []of.Action, id uint32) bool {
	return slices.ContainsFunc(list, func(a of.Action) bool {
		g, ok := a.(of.ToGroup)
		return ok && g.ID == id
	})
}

// groupUsers returns the flows that name a group.
func (s *Switch) groupUsers(id uint32) (out []*Rule) {
	for i := range s.tables {
		for _, r := range s.tables[i].rules {
			if namesGroup(r.Actions, id) || namesGroup(r.Write, id) {
				out = append(out, r)
			}
		}
	}
	return out
}

// groupInUse reports whether a flow names a group, or another group that
// stays.
func (s *Switch) groupInUse(id uint32, going []uint32) bool {
	if len(s.groupUsers(id)) > 0 {
		return true
	}
	for other, g := range s.groups {
		names := slices.ContainsFunc(g.Buckets, func(b of.Bucket) bool { return namesGroup(b.Actions, id) })
		if names && !slices.Contains(going, other) {
			return true
		}
	}
	return false
}

// maxWatch is how deep groups may watch groups (MAX_LIVENESS_RECURSION).
const maxWatch = 128

func hasLiveness(b *of.Bucket) bool { return b.WatchPort != 0 || b.WatchGroup != 0 }

// live reports whether what a bucket watches is up.
func (s *Switch) live(b *of.Bucket, depth int) bool {
	if !hasLiveness(b) {
		return true
	}
	if b.WatchPort != 0 && s.ports[b.WatchPort] {
		return true
	}
	g := s.groups[b.WatchGroup]
	if b.WatchGroup == 0 || g == nil || depth >= maxWatch {
		return false
	}
	return slices.ContainsFunc(g.Buckets, func(b of.Bucket) bool { return s.live(&b, depth+1) })
}

// choose returns the buckets that a group sends a packet to, by index, and
// for a select group those that it could as well have been.
func (s *Switch) choose(g *of.Group, p *Packet) (taken, alternatives []int) {
	var alive []int
	total := 0
	for i := range g.Buckets {
		b := &g.Buckets[i]
		switch {
		case g.Type == of.GroupAll || g.Type == of.GroupIndirect:
			taken = append(taken, i)
		case !s.live(b, 0):
		case g.Type == of.GroupFastFailover:
			return []int{i}, nil
		case b.Weight > 0:
			alive = append(alive, i)
			total += int(b.Weight)
		}
	}
	if g.Type != of.GroupSelect || len(alive) == 0 {
		return taken, nil
	}
	at := int(p.hash() % uint32(total))
	for _, i := range alive {
		if at -= int(g.Buckets[i].Weight); at < 0 {
			return []int{i}, alive
		}
	}
	return nil, nil // not reached: the weights sum up to total
}
