// Package sflow decodes sFlow version 5 (sflow.org, "sFlow Version 5", 2004)
// into flow records and interface counters.
//
// It stands between the network and everything else, so it believes nothing:
// every length and every count is checked against what is left of the
// datagram, and what is wrong ends in an Error that says where. Decoding flow
// samples allocates nothing.
package sflow

import (
	"net/netip"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Config configures a Decoder. The zero value is useful.
type Config struct {
	// Counters, if set, receives every counter sample. The value is reused
	// after the call.
	Counters func(*Counters)
}

// Counts are totals since a decoder was made.
type Counts struct {
	// Lost is the number of datagrams that sequence numbers show to be
	// missing; one that comes late, too.
	Lost uint64
	// Headerless is the number of flow samples without a packet header that
	// we can read; they yield no record.
	Headerless uint64
	// Unparsed is the number of sampled headers whose packet is cut short
	// or malformed. Their records hold what could be read.
	Unparsed uint64
}

// Decoder turns datagrams into records. It is not safe for concurrent use.
type Decoder struct {
	cfg      Config
	agents   agents
	counts   Counts
	counters Counters
}

// NewDecoder returns a decoder.
func NewDecoder(cfg Config) *Decoder {
	return &Decoder{cfg: cfg, agents: newAgents()}
}

// Counts returns the totals so far.
func (d *Decoder) Counts() Counts { return d.counts }

const (
	version = 5

	addressIPv4 = 1
	addressIPv6 = 2

	// Sample formats of enterprise 0.
	formatFlow             = 1
	formatCounters         = 2
	formatExpandedFlow     = 3
	formatExpandedCounters = 4

	structHeaderLen = 8
)

// Decode appends the records of a datagram to dst. at is the time of
// reception in Unix nanoseconds. The exporter of the records is the agent that
// the datagram names, or from where it names none. After an error, which is of
// type *Error, the records decoded before the broken part are valid.
func (d *Decoder) Decode(dst []flow.Record, datagram []byte, at int64, from netip.Addr) ([]flow.Record, error) {
	c := cursor{b: datagram}
	h, err := header(&c)
	if err != nil {
		return dst, err
	}
	if !h.agent.IsValid() || h.agent.IsUnspecified() {
		h.agent = from.Unmap().WithZone("")
	}
	exporter := flow.Exporter{Addr: h.agent, Domain: h.subAgent}
	d.counts.Lost += d.agents.lost(exporter, h.sequence, h.uptime, at)
	for range h.samples {
		format, body, err := c.structure(KindSample)
		if err != nil {
			return dst, err
		}
		switch format {
		case formatFlow, formatExpandedFlow:
			dst, err = d.flowSample(dst, body, format == formatExpandedFlow, at, exporter)
		case formatCounters, formatExpandedCounters:
			err = d.counterSample(body, format == formatExpandedCounters, at, exporter)
		}
		if err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// datagramHeader is what stands in front of the samples.
type datagramHeader struct {
	agent    netip.Addr
	subAgent uint32
	sequence uint32
	uptime   uint32 // milliseconds
	samples  int
}

func header(c *cursor) (h datagramHeader, err error) {
	if err := c.need(8, KindHeader); err != nil {
		return h, err
	}
	if c.uint32() != version {
		return h, &Error{Kind: KindVersion}
	}
	at := c.offset
	switch c.uint32() {
	case addressIPv4:
		if err := c.need(4, KindHeader); err != nil {
			return h, err
		}
		h.agent = netip.AddrFrom4([4]byte(c.b))
		c.skip(4)
	case addressIPv6:
		if err := c.need(16, KindHeader); err != nil {
			return h, err
		}
		h.agent = netip.AddrFrom16([16]byte(c.b)).Unmap()
		c.skip(16)
	default:
		return h, &Error{Kind: KindAddress, Offset: at}
	}
	if err := c.need(16, KindHeader); err != nil {
		return h, err
	}
	h.subAgent, h.sequence, h.uptime = c.uint32(), c.uint32(), c.uint32()
	h.samples, err = c.count(KindSampleCount)
	return h, err
}
