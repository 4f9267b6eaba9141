package openflow

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

// GroupType says how a group uses its buckets (section 7.3.4.3, enum
// ofp_group_type).
type GroupType uint8

// Group types.
const (
	GroupAll          GroupType = iota // every bucket gets a copy
	GroupSelect                        // one bucket, by weight
	GroupIndirect                      // its one bucket
	GroupFastFailover                  // the first bucket whose watched port or group lives
)

// String returns the type's name in ovs-ofctl's syntax.
func (t GroupType) String() string {
	names := [...]string{"all", "select", "indirect", "fast_failover"}
	if int(t) < len(names) {
		return names[t]
	}
	return fmt.Sprintf("type %d", uint8(t))
}

const (
	groupMax uint32 = 0xffffff00 // OFPG_MAX
	// GroupEvery stands for every group in deletions (OFPG_ALL).
	GroupEvery uint32 = 0xfffffffc
)

// Bucket is one list of actions of a group.
type Bucket struct {
	Weight uint16 // of a select group; 0 gets nothing
	// WatchPort and WatchGroup decide whether a bucket of a fast-failover
	// group lives; 0 and PortAny are none, so that group 0 cannot be watched.
	WatchPort, WatchGroup uint32
	Actions               []Action
}

// Group is a group entry (section 7.3.4.3).
type Group struct {
	ID      uint32
	Type    GroupType
	Buckets []Bucket
}

// GroupCommand says what a group-mod does (section 7.3.4.3, enum
// ofp_group_mod_command).
type GroupCommand uint16

// Group-mod commands. Adding a group that exists is an error; deleting one
// deletes every flow that names it.
const (
	GroupAdd GroupCommand = iota
	GroupModify
	GroupDelete
)

// GroupMod adds, changes or deletes a group (section 7.3.4.3); GroupDelete
// looks at the ID alone.
type GroupMod struct {
	Command GroupCommand
	Group
}

const bucketLen = 16

func (k *Bucket) append(b []byte) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint16(append(b, 0, 0), k.Weight)
	b = binary.BigEndian.AppendUint32(b, orAny(k.WatchPort))
	b = binary.BigEndian.AppendUint32(b, orAny(k.WatchGroup))
	b = appendActions(zeros(b, 4), k.Actions)
	binary.BigEndian.PutUint16(b[start:], uint16(len(b)-start))
	return b
}

// orAny turns our zero, nothing, into the protocol's; PortAny and groupAny
// are the same number. fromAny is the inverse.
func orAny(v uint32) uint32 {
	if v == 0 {
		return PortAny
	}
	return v
}

func fromAny(v uint32) uint32 {
	if v == PortAny {
		return 0
	}
	return v
}

func decodeBuckets(b []byte) ([]Bucket, error) {
	var out []Bucket
	for len(b) > 0 {
		if len(b) < bucketLen {
			return nil, malformed("bucket of %d bytes", len(b))
		}
		n := int(binary.BigEndian.Uint16(b))
		if n < bucketLen || n > len(b) {
			return nil, malformed("bucket length %d of %d bytes", n, len(b))
		}
		actions, err := decodeActions(b[bucketLen:n])
		if err != nil {
			return nil, err
		}
		out = append(out, Bucket{
			Weight:    binary.BigEndian.Uint16(b[2:]),
			WatchPort: fromAny(binary.BigEndian.Uint32(b[4:])), WatchGroup: fromAny(binary.BigEndian.Uint32(b[8:])),
			Actions: actions,
		})
		b = b[n:]
	}
	return out, nil
}

// append appends the whole message (section 7.3.4.3).
func (m *GroupMod) append(b []byte, xid uint32) ([]byte, error) {
	start := len(b)
	b = appendHeader(b, TypeGroupMod, xid)
	b = binary.BigEndian.AppendUint16(b, uint16(m.Command))
	b = append(b, byte(m.Type), 0)
	b = binary.BigEndian.AppendUint32(b, m.ID)
	if m.Command != GroupDelete {
		for i := range m.Buckets {
			b = m.Buckets[i].append(b)
		}
	}
	return finishMessage(b, start)
}

// decodeGroups reads the body of a group description reply (section
// 7.3.5.10).
func decodeGroups(b []byte) ([]Group, error) {
	var out []Group
	for len(b) > 0 {
		if len(b) < 8 {
			return nil, malformed("group description of %d bytes", len(b))
		}
		n := int(binary.BigEndian.Uint16(b))
		if n < 8 || n > len(b) {
			return nil, malformed("group description length %d of %d bytes", n, len(b))
		}
		buckets, err := decodeBuckets(b[8:n])
		if err != nil {
			return nil, err
		}
		out = append(out, Group{Type: GroupType(b[2]), ID: binary.BigEndian.Uint32(b[4:]), Buckets: buckets})
		b = b[n:]
	}
	return out, nil
}

// Key returns a string that is equal for groups that do the same under the
// same ID.
func (g *Group) Key() string {
	b := binary.BigEndian.AppendUint32([]byte{byte(g.Type)}, g.ID)
	for i := range g.Buckets {
		b = g.Buckets[i].append(b)
	}
	return string(b)
}

// String returns the group in ovs-ofctl's syntax, as add-group takes it.
func (g *Group) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "group_id=%d,type=%s", g.ID, g.Type)
	for i := range g.Buckets {
		s.WriteString("," + g.Buckets[i].text(g.Type))
	}
	return s.String()
}

func (k *Bucket) text(t GroupType) string {
	var s strings.Builder
	s.WriteString("bucket=")
	if t == GroupSelect {
		fmt.Fprintf(&s, "weight:%d,", k.Weight)
	}
	if fromAny(k.WatchPort) != 0 {
		fmt.Fprintf(&s, "watch_port:%s,", PortText(k.WatchPort))
	}
	if fromAny(k.WatchGroup) != 0 {
		fmt.Fprintf(&s, "watch_group:%d,", k.WatchGroup)
	}
	actions := "drop"
	if len(k.Actions) > 0 {
		actions = actionsText(k.Actions)
	}
	return s.String() + "actions=" + actions
}

// Validate reports what the switch would reject and can be told from the
// group alone.
func (g *Group) Validate() error {
	switch {
	case g.ID > groupMax:
		return fmt.Errorf("group 0x%x is reserved", g.ID)
	case g.Type > GroupFastFailover:
		return fmt.Errorf("group %d of %s", g.ID, g.Type)
	case g.Type == GroupIndirect && len(g.Buckets) != 1:
		return fmt.Errorf("indirect group %d has %d buckets, not one", g.ID, len(g.Buckets))
	}
	for i := range g.Buckets {
		k := &g.Buckets[i]
		watches := fromAny(k.WatchPort) != 0 || fromAny(k.WatchGroup) != 0
		if g.Type == GroupFastFailover && !watches {
			return fmt.Errorf("bucket %d of fast-failover group %d watches nothing", i, g.ID)
		}
		if g.Type != GroupFastFailover && g.Type != GroupSelect && watches {
			return fmt.Errorf("bucket %d of group %d: %s groups watch nothing", i, g.ID, g.Type)
		}
		if g.Type != GroupSelect && k.Weight != 0 {
			return fmt.Errorf("bucket %d of group %d: only select groups weigh", i, g.ID)
		}
		if err := (&situation{}).checkActions(k.Actions); err != nil {
			return fmt.Errorf("bucket %d of group %d: %w", i, g.ID, err)
		}
		if err := (&Instructions{Actions: k.Actions}).checkConjunctions(); err != nil {
			return fmt.Errorf("bucket %d of group %d: %w", i, g.ID, err)
		}
	}
	return nil
}

// Validate reports what the switch would reject and can be told from the
// message alone.
func (m *GroupMod) Validate() error {
	switch {
	case m.Command > GroupDelete:
		return fmt.Errorf("group-mod command %d", m.Command)
	case m.Command == GroupDelete && (m.ID <= groupMax || m.ID == GroupEvery):
		return nil
	}
	return m.Group.Validate()
}

// GroupCounters is what a group has counted (section 7.3.5.9).
type GroupCounters struct {
	ID             uint32
	References     uint32 // flows and groups that name it
	Packets, Bytes uint64
	Duration       time.Duration // since it was added
	Buckets        []BucketCounters
}

// BucketCounters is what a bucket has counted.
type BucketCounters struct{ Packets, Bytes uint64 }

const (
	groupStatsLen  = 40
	bucketStatsLen = 16
)

// decodeGroupStats reads the body of a group statistics reply.
func decodeGroupStats(b []byte) ([]GroupCounters, error) {
	var out []GroupCounters
	for len(b) > 0 {
		if len(b) < groupStatsLen {
			return nil, malformed("group statistics of %d bytes", len(b))
		}
		n := int(binary.BigEndian.Uint16(b))
		if n < groupStatsLen || n > len(b) || (n-groupStatsLen)%bucketStatsLen != 0 {
			return nil, malformed("group statistics length %d of %d bytes", n, len(b))
		}
		c := GroupCounters{
			ID: binary.BigEndian.Uint32(b[4:]), References: binary.BigEndian.Uint32(b[8:]),
			Packets: binary.BigEndian.Uint64(b[16:]), Bytes: binary.BigEndian.Uint64(b[24:]), Duration: wireDuration(b[32:]),
		}
		for k := b[groupStatsLen:n]; len(k) > 0; k = k[bucketStatsLen:] {
			c.Buckets = append(c.Buckets, BucketCounters{Packets: binary.BigEndian.Uint64(k), Bytes: binary.BigEndian.Uint64(k[8:])})
		}
		out = append(out, c)
		b = b[n:]
	}
	return out, nil
}
