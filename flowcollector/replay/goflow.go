package replay

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/netflow"
)

// goflowRow is a line of goflow2's JSON output (its flow.proto). Which fields are
// names, numbers or dates is up to goflow2's mapping file.
type goflowRow struct {
	Type       string `json:"type"`
	Received   scalar `json:"time_received_ns"`
	Start      scalar `json:"time_flow_start_ns"`
	End        scalar `json:"time_flow_end_ns"`
	Sampler    string `json:"sampler_address"`
	Domain     scalar `json:"observation_domain_id"`
	Rate       scalar `json:"sampling_rate"`
	Bytes      scalar `json:"bytes"`
	Packets    scalar `json:"packets"`
	Src        string `json:"src_addr"`
	Dst        string `json:"dst_addr"`
	EtherType  scalar `json:"etype"`
	Proto      scalar `json:"proto"`
	SrcPort    scalar `json:"src_port"`
	DstPort    scalar `json:"dst_port"`
	InPort     scalar `json:"in_if"`
	OutPort    scalar `json:"out_if"`
	SrcMAC     string `json:"src_mac"`
	DstMAC     string `json:"dst_mac"`
	VLAN       scalar `json:"vlan_id"`
	Forwarding scalar `json:"forwarding_status"`
	TTL        scalar `json:"ip_ttl"`
	TCPFlags   scalar `json:"tcp_flags"`
	ICMPType   scalar `json:"icmp_type"`
	ICMPCode   scalar `json:"icmp_code"`
}

// goflow reads goflow2's JSON lines. It is a rowParser.
type goflow struct{}

func (g *goflow) row(line []byte, batch []flow.Record) ([]flow.Record, error) {
	var row goflowRow
	if err := json.Unmarshal(line, &row); err != nil {
		return batch, fmt.Errorf("JSON: %w", err)
	}
	r, err := row.record()
	if err != nil {
		return batch, err
	}
	return append(batch, r), nil
}

func (g *goflowRow) record() (flow.Record, error) {
	var p goflowReader
	r := flow.Record{
		Time:     p.time("time_received_ns", g.Received),
		Source:   flow.SourceIPFIX,
		Exporter: flow.Exporter{Addr: p.addr("sampler_address", g.Sampler), Domain: uint32(p.number("observation_domain_id", g.Domain, 32))},
		InPort:   uint32(p.number("in_if", g.InPort, 32)),
		OutPort:  uint32(p.number("out_if", g.OutPort, 32)),
		Rate:     float64(max(1, p.number("sampling_rate", g.Rate, 64))),
		Packets:  p.number("packets", g.Packets, 64),
		Bytes:    p.number("bytes", g.Bytes, 64),
		VLAN:     uint16(p.number("vlan_id", g.VLAN, 12)),
		Src:      p.addr("src_addr", g.Src),
		Dst:      p.addr("dst_addr", g.Dst),
		TTL:      uint8(p.number("ip_ttl", g.TTL, 8)),
		Verdict:  forwardingVerdict(p.number("forwarding_status", g.Forwarding, 32)),
	}
	if g.Type == "SFLOW_5" {
		r.Source = flow.SourceSFlow
		sflowOutput(&r)
	}
	r.SrcMAC, _ = parseMAC(g.SrcMAC)
	r.DstMAC, _ = parseMAC(g.DstMAC)
	if !unset(string(g.Start)) && !unset(string(g.End)) {
		r.Duration = max(0, p.time("time_flow_end_ns", g.End)-p.time("time_flow_start_ns", g.Start))
	}
	g.transport(&r, &p)
	if p.err == nil && r.Time == 0 {
		p.err = errors.New("no time_received_ns")
	}
	return r, p.err
}

// sflowOutput resolves the output port of an sFlow sample (sFlow version 5, page
// 28): the upper two bits say whether it is a port, the reason of a drop, or the
// number of ports.
func sflowOutput(r *flow.Record) {
	const port, dropped = 0, 1
	switch r.OutPort >> 30 {
	case port:
		if r.OutPort != 0 {
			r.Verdict = flow.VerdictForwarded
		}
		return
	case dropped:
		r.Verdict = flow.VerdictDropped
	default:
		r.Verdict = flow.VerdictForwarded
	}
	r.OutPort = 0
}

// transport sets the fields from EtherType upwards, and the signal.
func (g *goflowRow) transport(r *flow.Record, p *goflowReader) {
	r.Proto, r.EtherType = parseProto(goflowProto(g.Proto), r.Src.Is6())
	switch name := string(g.EtherType); {
	case strings.EqualFold(name, "arp"):
		r.EtherType = flow.EtherARP
	case digits(name) && name != "":
		r.EtherType = uint16(p.number("etype", g.EtherType, 16))
	case !r.Src.IsValid():
		r.EtherType = 0
	}
	switch r.Proto {
	case flow.ProtoTCP, flow.ProtoUDP, flow.ProtoSCTP:
		r.SrcPort = uint16(p.number("src_port", g.SrcPort, 16))
		r.DstPort = uint16(p.number("dst_port", g.DstPort, 16))
	case flow.ProtoICMP, flow.ProtoICMPv6:
		r.ICMPType = uint8(p.number("icmp_type", g.ICMPType, 8))
		r.ICMPCode = uint8(p.number("icmp_code", g.ICMPCode, 8))
	}
	if r.Proto == flow.ProtoTCP {
		// NetFlow's field may be 16 bits wide; the control bits are the low 8.
		r.TCPFlags = uint8(p.number("tcp_flags", g.TCPFlags, 16))
	}
	r.Signal = exportedSignal(r)
}

// goflowProto maps goflow2's protocol names to those that logs use.
func goflowProto(s scalar) string {
	if strings.EqualFold(string(s), "IPv6-ICMP") {
		return "icmp6"
	}
	return string(s)
}

// exportedSignal says what an exported flow proves. Neighbour discovery proves
// nothing here: the target that it is about is not among the fields.
func exportedSignal(r *flow.Record) flow.Signal {
	if r.Proto == flow.ProtoICMP || r.Proto == flow.ProtoICMPv6 {
		return judgeICMP(r.Proto, r.ICMPType, 0).forward
	}
	return netflow.Signal(r)
}

// forwardingVerdict reads IE 89 (RFC 7270, section 4.12): the status is in the
// upper two bits of the octet.
func forwardingVerdict(status uint64) flow.Verdict {
	switch status >> 6 {
	case 1:
		return flow.VerdictForwarded
	case 2:
		return flow.VerdictDropped
	}
	return flow.VerdictUnknown
}

// goflowReader parses goflow2's values and keeps the first error.
type goflowReader struct {
	rowReader
}

func (p *goflowReader) number(field string, s scalar, bits int) uint64 {
	if unset(string(s)) {
		return 0
	}
	n, err := strconv.ParseUint(string(s), 10, bits)
	if err != nil {
		err = &fieldError{field, string(s)}
	}
	return keep(&p.rowReader, n, err)
}

// time reads nanoseconds or, where goflow2 renders them so, a date.
func (p *goflowReader) time(field string, s scalar) int64 {
	if strings.Contains(string(s), ":") {
		return p.rowReader.time(field, string(s))
	}
	return int64(p.number(field, s, 63))
}

func (p *goflowReader) addr(field, s string) netip.Addr {
	if unset(s) {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		err = &fieldError{field, s}
	}
	return keep(&p.rowReader, a.WithZone("").Unmap(), err)
}
