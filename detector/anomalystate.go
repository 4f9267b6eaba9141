package detector

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/platelet-sdn/platelet/detector/bounded"
	"github.com/platelet-sdn/platelet/detector/keyed"
)

const (
	learnedMagic   = "PLTL"
	learnedVersion = 2
	// learnedHosts is how many baselines are written, those with the most
	// history.
	learnedHosts = 1 << 14
	// maxLearned bounds what is read.
	maxLearned = 16 << 20
)

// ErrLearned says that what was learned by another engine cannot be used: it is
// damaged, or was learned from other features or by another version.
var ErrLearned = errors.New("detector: what was learned cannot be restored")

// learnedHeader precedes what was learned. Features is a hash of what the
// values mean, Sum of what follows.
type learnedHeader struct {
	Magic         [4]byte
	Version       uint32
	Features, Sum [sha256.Size]byte
}

// learnedShared is what is not kept by the models themselves.
type learnedShared struct {
	Minutes int64
	Ready   bool
	Key     keyed.Key
	Day     [24]struct {
		Mean    float64
		Windows int64
	}
	Roles [hostRoles]learnedRole
	Hosts uint32
}

type learnedRole struct {
	Location, Spread [vectorSize]float32
	Votes            uint32
	Week             [hoursOfWeek]learnedSeason
}

type learnedSeason struct {
	Offset       [vectorSize]float32
	Votes, Weeks uint16
	Week         int32
}

type learnedHost struct {
	Hi, Lo                  uint64
	Location, Spread, Shift [vectorSize]float32
	First, Seen             int64
	Raised, Voted           int64
	Windows                 uint32
	Role, Wanted            uint8
	Told, Partial           bool
}

// Learned is a copy of what the unsupervised models know of the network:
// baselines, models and their calibration. It is apart from the engine, which
// may go on while it is written. It holds the keys of the models' sketches, so it
// is a secret.
type Learned struct {
	meaning [sha256.Size]byte
	shared  learnedShared
	hosts   []learnedHost
	models  [][]byte
}

// Learned copies what was learned. It is quick (see BenchmarkLearned); MarshalBinary of
// the copy is not, and needs no engine.
func (e *Engine) Learned() (*Learned, error) {
	l, err := e.anomaly.learned()
	if err != nil {
		return nil, fmt.Errorf("detector: copying what was learned: %w", err)
	}
	return l, nil
}

// MarshalBinary writes what ImportLearned reads.
func (l *Learned) MarshalBinary() ([]byte, error) {
	body, err := l.body()
	if err != nil {
		return nil, fmt.Errorf("detector: writing what was learned: %w", err)
	}
	h := learnedHeader{Version: learnedVersion, Features: l.meaning, Sum: sha256.Sum256(body)}
	copy(h.Magic[:], learnedMagic)
	b, err := binary.Append(make([]byte, 0, len(body)+128), binary.LittleEndian, &h)
	if err != nil {
		return nil, fmt.Errorf("detector: writing what was learned: %w", err)
	}
	return append(b, body...), nil
}

// ImportLearned restores what Learned.MarshalBinary wrote, in place of what this engine
// has learned. Anything else is refused with ErrLearned and changes nothing.
func (e *Engine) ImportLearned(b []byte) error {
	if len(b) > maxLearned {
		return fmt.Errorf("%w: %d bytes", ErrLearned, len(b))
	}
	var h learnedHeader
	n, err := binary.Decode(b, binary.LittleEndian, &h)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrLearned, err)
	case string(h.Magic[:]) != learnedMagic || h.Version != learnedVersion:
		return fmt.Errorf("%w: not of version %d", ErrLearned, learnedVersion)
	case h.Features != e.anomaly.meaning():
		return fmt.Errorf("%w: learned from other features", ErrLearned)
	case h.Sum != sha256.Sum256(b[n:]):
		return fmt.Errorf("%w: damaged", ErrLearned)
	}
	if err := e.anomaly.restore(b[n:]); err != nil {
		return fmt.Errorf("%w: %w", ErrLearned, err)
	}
	return nil
}

// meaning is a hash of what the values are, so that a change of the features is
// not taken for a change of the hosts.
func (w *anomalyWatch) meaning() [sha256.Size]byte {
	h := sha256.New()
	for _, f := range w.infos {
		fmt.Fprintf(h, "%s\x00%s\x00%v\x00%v\n", f.Name, f.Unit, f.Log, f.Sampled)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// codecs are the parts that write themselves, in a fixed order.
func (o *outlier) codecs() []codec {
	list := []codec{o.forest, o.encoder, o.graph, o.drift}
	for r := range o.histories {
		for _, h := range o.histories[r] {
			list = append(list, h)
		}
	}
	return list
}

type codec interface {
	encoding.BinaryMarshaler
	encoding.BinaryUnmarshaler
}

func (w *anomalyWatch) learned() (*Learned, error) {
	l := &Learned{meaning: w.meaning(), hosts: w.veterans()}
	l.shared = learnedShared{Minutes: w.minutes, Ready: w.ready, Key: w.key, Hosts: uint32(len(l.hosts))}
	if w.e.clock.start != 0 {
		l.shared.Minutes = w.minute(w.e.clock.now)
	}
	for i, d := range w.day {
		l.shared.Day[i].Mean, l.shared.Day[i].Windows = d.mean, int64(d.windows)
	}
	for i := range w.roles {
		w.roles[i].export(&l.shared.Roles[i])
	}
	for _, c := range w.codecs() {
		part, err := c.MarshalBinary()
		if err != nil {
			return nil, err
		}
		l.models = append(l.models, part)
	}
	return l, nil
}

// body is all that follows the header.
func (l *Learned) body() ([]byte, error) {
	b, err := binary.Append(nil, binary.LittleEndian, &l.shared)
	for i := range l.hosts {
		if err == nil {
			b, err = binary.Append(b, binary.LittleEndian, &l.hosts[i])
		}
	}
	for _, part := range l.models {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	return b, err
}

// veterans are the hosts with the most history.
func (w *anomalyWatch) veterans() []learnedHost {
	type veteran struct {
		windows, slot uint32
		address       address
	}
	all := make([]veteran, 0, w.hosts.Len())
	for i, a := range w.hosts.All() {
		if n := w.hosts.At(i).windows; n > 0 {
			all = append(all, veteran{n, i, a})
		}
	}
	slices.SortFunc(all, func(a, b veteran) int {
		return cmp.Or(cmp.Compare(b.windows, a.windows), cmp.Compare(a.address.hi, b.address.hi), cmp.Compare(a.address.lo, b.address.lo))
	})
	list := make([]learnedHost, 0, min(len(all), learnedHosts))
	for _, v := range all[:cap(list)] {
		b := w.hosts.At(v.slot)
		list = append(list, learnedHost{v.address.hi, v.address.lo, b.location, b.spread, b.shift, b.first, b.seen, b.raised, b.voted,
			b.windows, uint8(b.role), uint8(b.wanted), b.told, b.partial})
	}
	return list
}

func (p *population) export(to *learnedRole) {
	to.Location, to.Spread, to.Votes = p.location, p.spread, p.votes
	for i, s := range p.week {
		to.Week[i] = learnedSeason{s.offset, s.votes, s.weeks, s.week}
	}
}

func (p *population) restore(from *learnedRole) error {
	p.location, p.spread, p.votes = from.Location, from.Spread, from.Votes
	if !sane(from.Location[:], -maxLocation) || !sane(from.Spread[:], 0) {
		return errors.New("a role's baseline is out of range")
	}
	for i, s := range from.Week {
		if !sane(s.Offset[:], -maxLocation) {
			return errors.New("an hour of the week is out of range")
		}
		p.week[i] = season{s.Offset, s.Votes, min(s.Weeks, seasonWeeks), s.Week}
	}
	return nil
}

// maxLocation is beyond what any transformed feature can be: shares are at most
// 1, the rest are logarithms.
const maxLocation = 1e3

// sane reports whether values are numbers within bounds.
func sane(list []float32, least float32) bool {
	for _, v := range list {
		if !(v >= least && v <= maxLocation) {
			return false
		}
	}
	return true
}

// restore reads everything into new parts before it replaces the old ones.
func (w *anomalyWatch) restore(b []byte) error {
	var shared learnedShared
	n, err := binary.Decode(b, binary.LittleEndian, &shared)
	if err != nil {
		return err
	}
	if shared.Minutes < 0 || shared.Minutes > math.MaxInt32 || shared.Hosts > learnedHosts {
		return fmt.Errorf("%d hosts, learned for %d minutes", shared.Hosts, shared.Minutes)
	}
	fresh, err := newOutlier(w.e.keys)
	if err != nil {
		return err
	}
	fresh.key, fresh.minutes = shared.Key, shared.Minutes
	for i, d := range shared.Day {
		if !(d.Mean >= 0 && d.Mean <= 1 && d.Windows >= 0 && d.Windows <= math.MaxInt32) {
			return errors.New("a time of day is out of range")
		}
		fresh.day[i].mean, fresh.day[i].windows = d.Mean, int(d.Windows)
	}
	var roles [hostRoles]population
	for i := range roles {
		if err := roles[i].restore(&shared.Roles[i]); err != nil {
			return err
		}
	}
	hosts, b, err := w.restoreHosts(b[n:], int(shared.Hosts))
	if err != nil {
		return err
	}
	for _, c := range fresh.codecs() {
		if len(b) < 4 || uint64(len(b)-4) < uint64(binary.LittleEndian.Uint32(b)) {
			return errors.New("a model is missing")
		}
		size := int(binary.LittleEndian.Uint32(b))
		if err := c.UnmarshalBinary(b[4 : 4+size]); err != nil {
			return err
		}
		b = b[4+size:]
	}
	if len(b) > 0 {
		return fmt.Errorf("%d bytes too many", len(b))
	}
	w.outlier, w.roles, w.hosts = fresh, roles, hosts
	w.ready = shared.Ready && w.hours() >= w.needed()
	return nil
}

// restoreHosts reads baselines and returns the rest.
func (w *anomalyWatch) restoreHosts(b []byte, count int) (*bounded.Table[address, baseline], []byte, error) {
	hosts := bounded.New[address](w.e.cfg.Anomaly.Hosts, (*baseline).worth)
	in := bytes.NewReader(b)
	for range count {
		var h learnedHost
		if err := binary.Read(in, binary.LittleEndian, &h); err != nil {
			return nil, nil, fmt.Errorf("a baseline is missing: %w", err)
		}
		if !sane(h.Location[:], -maxLocation) || !sane(h.Spread[:], math.SmallestNonzeroFloat32) ||
			h.Role >= uint8(hostRoles) || h.Wanted >= uint8(hostRoles) || h.Windows > math.MaxUint32/2 {
			return nil, nil, errors.New("a baseline is out of range")
		}
		for i, s := range h.Shift {
			h.Shift[i] = min(max(s, 0), math.MaxInt32)
		}
		x := baseline{location: h.Location, spread: h.Spread, shift: h.Shift, first: h.First, seen: h.Seen, raised: h.Raised, voted: h.Voted,
			windows: h.Windows, role: hostRole(h.Role), wanted: hostRole(h.Wanted), told: h.Told, partial: h.Partial}
		if _, v, _ := hosts.Put(address{h.Hi, h.Lo}, x.worth()); v != nil {
			*v = x
		}
	}
	return hosts, b[len(b)-in.Len():], nil
}
