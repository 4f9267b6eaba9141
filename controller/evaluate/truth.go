package evaluate

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/replay"
)

// Host is who a label or a finding speaks of: an address or, where there is
// none, a station.
type Host struct {
	Addr netip.Addr
	MAC  flow.MAC
}

// String is the address, or the Ethernet address; nobody stands for sources
// that were forged.
func (h Host) String() string {
	switch {
	case h.Addr.IsValid():
		return h.Addr.String()
	case h.MAC.IsZero():
		return "nobody"
	}
	return h.MAC.String()
}

// MarshalText is String.
func (h Host) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

const hour = int64(3600e9)

const (
	// maxTuples bounds the memory for telling first packets of flows from
	// others, where records do not say.
	maxTuples = 1 << 21
	// maxContacts bounds what is counted of an attacker's contacts.
	maxContacts = 256
)

// party is what the labels and the recording say of one host.
type party struct {
	class replay.Class
	// opened counts the flows it began, hours the hours in which it did;
	// lastHour is the latest of those, plus 1.
	opened, hours int
	lastHour      int64
	bytes         uint64 // sent
	// attack is nil unless it has malicious flows.
	attack *attack
}

// attack is what an attacker did.
type attack struct {
	begins []int64 // of its malicious flows, sorted when the truth is complete
	kinds  map[string]int
	// services are the (target, protocol, port) of its flows, targets their
	// hosts; at most maxContacts each.
	services             map[service]bool
	targets              map[netip.Addr]bool
	answered, unanswered int
	sent                 uint64
}

type service struct {
	addr  netip.Addr
	proto uint8
	port  uint16
}

type tuple struct {
	a, b         netip.Addr
	aPort, bPort uint16
	proto        uint8
}

// truth is what is known of a set beforehand.
type truth struct {
	labels  []HostLabel
	parties map[Host]*party
	// victims are targets of malicious flows, respondents of benign ones.
	victims, respondents map[netip.Addr]bool
	tuples               map[tuple]struct{}
	labelled             bool // some label says something
	begin, end           int64
	records              int64
}

func newTruth(labels []HostLabel) *truth {
	return &truth{labels: labels, parties: map[Host]*party{}, victims: map[netip.Addr]bool{}, respondents: map[netip.Addr]bool{},
		tuples: map[tuple]struct{}{}}
}

func (t *truth) party(h Host) *party {
	p := t.parties[h]
	if p == nil {
		p = &party{}
		t.parties[h] = p
	}
	return p
}

// flowLabel takes the label of a log's row.
func (t *truth) flowLabel(l replay.Label) {
	if l.Class == replay.ClassUnknown || !l.Src.IsValid() || t.hostLabel(Host{Addr: l.Src}, l.Time) != nil {
		return
	}
	t.labelled = true
	p := t.party(Host{Addr: l.Src})
	p.class = max(p.class, l.Class)
	if l.Class == replay.ClassMalicious {
		p.malicious(l.Time, attackKind(l.Text, l.Detail))
		t.victims[l.Dst] = true
	} else {
		t.respondents[l.Dst] = true
	}
}

func (p *party) malicious(at int64, kind string) {
	p.class = replay.ClassMalicious
	if p.attack == nil {
		p.attack = &attack{kinds: map[string]int{}, services: map[service]bool{}, targets: map[netip.Addr]bool{}}
	}
	p.attack.begins = append(p.attack.begins, at)
	p.attack.kinds[kind]++
}

// hostLabel is the first label that speaks of a host at a time.
func (t *truth) hostLabel(h Host, at int64) *HostLabel {
	for i := range t.labels {
		if t.labels[i].Covers(h, at) {
			return &t.labels[i]
		}
	}
	return nil
}

// record takes a record of the recording, in the order of time.
func (t *truth) record(r *flow.Record) {
	if t.records == 0 {
		t.begin = r.Time
	}
	t.records++
	t.end = r.Time
	h := Host{Addr: r.Src}
	if !r.Src.IsValid() {
		h = Host{MAC: r.SrcMAC}
	}
	if !h.Addr.IsValid() && h.MAC.IsZero() {
		return
	}
	if !t.opens(r) {
		if p := t.parties[h]; p != nil {
			p.bytes += r.Bytes
		}
		return
	}
	p := t.party(h)
	p.bytes += r.Bytes
	p.opened++
	if n := (r.Time-t.begin)/hour + 1; n != p.lastHour {
		p.lastHour = n
		p.hours++
	}
	t.judge(h, p, r)
	if !r.SrcMAC.IsZero() && h.Addr.IsValid() { // an attacker may be labelled by its station
		station := Host{MAC: r.SrcMAC}
		if l := t.hostLabel(station, r.Time); l != nil && l.MAC == r.SrcMAC {
			t.judge(station, t.party(station), r)
		}
	}
}

// judge applies the host labels to a flow that begins.
func (t *truth) judge(h Host, p *party, r *flow.Record) {
	l := t.hostLabel(h, r.Time)
	if l == nil {
		return
	}
	t.labelled = true
	if !l.Malicious {
		p.class = max(p.class, replay.ClassBenign)
		return
	}
	p.malicious(r.Time, attackKind(l.Kind, ""))
	if r.Dst.IsValid() {
		t.victims[r.Dst] = true
	}
}

// opens reports whether a record is the first of a flow: where it does not say,
// the first of its addresses and ports, in either direction.
func (t *truth) opens(r *flow.Record) bool {
	switch r.Signal {
	case flow.SignalAccept, flow.SignalRefuse, flow.SignalUnreachable, flow.SignalFinish, flow.SignalSilence,
		flow.SignalDropped, flow.SignalForged, flow.SignalARPReply:
		return false
	case flow.SignalARPRequest:
		return true
	}
	k := tuple{r.Src, r.Dst, r.SrcPort, r.DstPort, r.Proto}
	if k.b.Less(k.a) || k.a == k.b && k.bPort < k.aPort {
		k = tuple{k.b, k.a, k.bPort, k.aPort, k.proto}
	}
	_, known := t.tuples[k]
	if !known {
		if len(t.tuples) >= maxTuples {
			clear(t.tuples)
		}
		t.tuples[k] = struct{}{}
	}
	return !known || r.Signal == flow.SignalAttempt && r.Source == flow.SourceLog
}

// seal sorts what came in the order of files.
func (t *truth) seal() {
	t.tuples = nil
	for _, p := range t.parties {
		if p.attack != nil {
			slices.Sort(p.attack.begins)
		}
		if p.class == replay.ClassUnknown {
			continue
		}
	}
	for a := range t.respondents {
		if !t.victims[a] {
			if p := t.party(Host{Addr: a}); p.class == replay.ClassUnknown {
				p.class = replay.ClassBenign
			}
		}
	}
}

// watch notes what an attacker does, once the truth is complete: why one was
// missed is read from that.
func (t *truth) watch(r *flow.Record) {
	if p := t.parties[Host{Addr: r.Src}]; p != nil && p.attack != nil {
		p.attack.sent += r.Bytes
		if r.Signal == flow.SignalAttempt || r.Signal == flow.SignalUDP || r.Signal == flow.SignalICMP {
			p.attack.contact(r)
		}
	}
	if p := t.parties[Host{Addr: r.Dst}]; p != nil && p.attack != nil {
		switch r.Signal {
		case flow.SignalAccept:
			p.attack.answered++
		case flow.SignalRefuse, flow.SignalSilence, flow.SignalUnreachable:
			p.attack.unanswered++
		}
	}
}

func (a *attack) contact(r *flow.Record) {
	if len(a.services) < maxContacts {
		a.services[service{r.Dst, r.Proto, r.DstPort}] = true
	}
	if len(a.targets) < maxContacts {
		a.targets[r.Dst] = true
	}
}

// look describes an attacker for those who ask why it was missed.
func (a *attack) look() string {
	span := float64(a.begins[len(a.begins)-1]-a.begins[0]) / 1e9
	text := fmt.Sprintf("%d flows over %.0f s to %s services of %s hosts, %d answered, %d not, %d bytes sent", len(a.begins), span,
		capped(len(a.services)), capped(len(a.targets)), a.answered, a.unanswered, a.sent)
	if len(a.services) == 1 {
		for s := range a.services {
			text += fmt.Sprintf(" (protocol %d port %d)", s.proto, s.port)
		}
	}
	return text
}

func capped(n int) string {
	if n >= maxContacts {
		return fmt.Sprintf(">= %d", n)
	}
	return fmt.Sprint(n)
}

// medianBytes is the median of what hosts sent.
func (t *truth) medianBytes() float64 {
	var all []uint64
	for _, p := range t.parties {
		if p.opened > 0 {
			all = append(all, p.bytes)
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return float64(all[len(all)/2])
}

// hostHours counts the hours in which benign hosts began flows; the last hour of
// the recording counts as far as it goes.
func (t *truth) hostHours() float64 {
	lastHour := (t.end-t.begin)/hour + 1
	part := float64((t.end-t.begin)%hour) / float64(hour)
	sum := 0.0
	for _, p := range t.parties {
		if p.class != replay.ClassBenign || p.hours == 0 {
			continue
		}
		sum += float64(p.hours)
		if p.lastHour == lastHour {
			sum -= 1 - part
		}
	}
	return sum
}
