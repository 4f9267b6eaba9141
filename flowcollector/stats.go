package flowcollector

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Stats is a snapshot of everything that a Collector counts, since it started.
type Stats struct {
	SFlow     ProtocolStats   `json:"sflow"`
	IPFIX     ProtocolStats   `json:"ipfix"`
	Listeners []ListenerStats `json:"listeners"`
}

// ProtocolStats are the totals of one protocol.
type ProtocolStats struct {
	// Datagrams and Bytes are what the sockets delivered, whatever became
	// of it. Bytes are UDP payload.
	Datagrams uint64 `json:"datagrams"`
	Bytes     uint64 `json:"bytes"`
	// Records is the number of records handed on.
	Records uint64 `json:"records"`
	// Refused is the number of datagrams from senders that are no peers.
	Refused uint64 `json:"refused"`
	// Malformed is the number of datagrams with an error.
	Malformed uint64 `json:"malformed"`
	// UnknownTemplate is the number of data sets without a template.
	UnknownTemplate uint64 `json:"unknown_template"`
	// KernelDrops is the number of datagrams dropped because a socket buffer
	// was full.
	KernelDrops uint64 `json:"kernel_drops"`
	// SequenceLost is what exporters sent and we never saw, dropped by the
	// kernel or on the way: datagrams of sFlow and NetFlow version 9, data
	// records of IPFIX and NetFlow version 5.
	SequenceLost uint64 `json:"sequence_lost"`
	// Egress is the number of records left out because of SkipEgress.
	Egress uint64 `json:"egress_skipped"`
	// Headerless is the number of sFlow samples without a packet header,
	// Unparsed that of headers whose packet is cut short or malformed.
	Headerless uint64 `json:"headerless"`
	Unparsed   uint64 `json:"unparsed"`

	// MalformedBy and UnknownBy tell who is to blame. They are bounded;
	// what does not fit is counted in an entry without exporter.
	MalformedBy []MalformedCount `json:"malformed_by,omitempty"`
	UnknownBy   []UnknownCount   `json:"unknown_by,omitempty"`
}

// MalformedCount counts the malformed datagrams of one sender.
type MalformedCount struct {
	// Exporter is the sender's address, invalid in the overflow entry.
	Exporter netip.Addr `json:"exporter"`
	// Kind is that of a netflow.Error or sflow.Error, or KindTruncated.
	Kind  string `json:"kind"`
	Count uint64 `json:"count"`
}

// UnknownCount counts the data sets that had no template.
type UnknownCount struct {
	// Exporter is the sender's address, invalid in the overflow entry.
	Exporter netip.Addr `json:"exporter"`
	Domain   uint32     `json:"domain"`
	Set      uint16     `json:"set"`
	Count    uint64     `json:"count"`
}

// ListenerStats describes one socket.
type ListenerStats struct {
	Protocol Protocol       `json:"protocol"`
	Address  netip.AddrPort `json:"address"`
	// ReceiveBuffer is the size of the socket buffer in bytes as the kernel
	// accounts it, which includes its own overhead.
	ReceiveBuffer int    `json:"receive_buffer"`
	KernelDrops   uint64 `json:"kernel_drops"`
}

// KindTruncated is the kind of a datagram that is longer than our buffers.
const KindTruncated = "truncated"

// Protocol is what a listener takes.
type Protocol string

// The protocols that a Collector listens for.
const (
	ProtocolSFlow Protocol = "sflow"
	ProtocolIPFIX Protocol = "ipfix" // and NetFlow
)

// counters are the totals of one protocol; all receivers add to them, once per
// batch.
type counters struct {
	datagrams, bytes, records, refused, malformed atomic.Uint64
	unknown, kernelDrops, lost, egress            atomic.Uint64
	headerless, unparsed                          atomic.Uint64

	malformedBy tally[malformedKey]
	unknownBy   tally[unknownKey]
}

type malformedKey struct {
	exporter netip.Addr
	kind     string
}

type unknownKey struct {
	exporter flow.Exporter
	set      uint16
}

func (c *counters) snapshot() ProtocolStats {
	s := ProtocolStats{
		Datagrams:       c.datagrams.Load(),
		Bytes:           c.bytes.Load(),
		Records:         c.records.Load(),
		Refused:         c.refused.Load(),
		Malformed:       c.malformed.Load(),
		UnknownTemplate: c.unknown.Load(),
		KernelDrops:     c.kernelDrops.Load(),
		SequenceLost:    c.lost.Load(),
		Egress:          c.egress.Load(),
		Headerless:      c.headerless.Load(),
		Unparsed:        c.unparsed.Load(),
	}
	for k, n := range c.malformedBy.snapshot() {
		s.MalformedBy = append(s.MalformedBy, MalformedCount{Exporter: k.exporter, Kind: k.kind, Count: n})
	}
	slices.SortFunc(s.MalformedBy, func(a, b MalformedCount) int {
		return cmp.Or(a.Exporter.Compare(b.Exporter), cmp.Compare(a.Kind, b.Kind))
	})
	for k, n := range c.unknownBy.snapshot() {
		s.UnknownBy = append(s.UnknownBy, UnknownCount{
			Exporter: k.exporter.Addr, Domain: k.exporter.Domain, Set: k.set, Count: n,
		})
	}
	slices.SortFunc(s.UnknownBy, func(a, b UnknownCount) int {
		return cmp.Or(a.Exporter.Compare(b.Exporter), cmp.Compare(a.Domain, b.Domain), cmp.Compare(a.Set, b.Set))
	})
	return s
}

// maxTally is the number of keys that a tally tells apart.
const maxTally = 256

// tally counts by key, up to a bound; the zero key takes the overflow. It is
// for what goes wrong, so that the lock does not matter.
type tally[K comparable] struct {
	mu sync.Mutex
	m  map[K]uint64
}

func (t *tally[K]) add(k K) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m == nil {
		t.m = make(map[K]uint64)
	}
	if _, ok := t.m[k]; !ok && len(t.m) >= maxTally {
		var overflow K
		k = overflow
	}
	t.m[k]++
}

func (t *tally[K]) snapshot() map[K]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := make(map[K]uint64, len(t.m))
	for k, n := range t.m {
		m[k] = n
	}
	return m
}
