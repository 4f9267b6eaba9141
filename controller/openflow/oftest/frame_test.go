package oftest

import (
	"net"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// frame builds a packet's bytes.
func frame(t testing.TB, p Packet) []byte {
	t.Helper()
	eth := &layers.Ethernet{SrcMAC: net.HardwareAddr(p.EthSrc[:]), DstMAC: net.HardwareAddr(p.EthDst[:]), EthernetType: layers.EthernetType(p.EthType)}
	stack := []gopacket.SerializableLayer{eth}
	for i, tag := range p.VLANs {
		if tag.TPID == 0 {
			break
		}
		inner := p.EthType
		if i+1 < len(p.VLANs) && p.VLANs[i+1].TPID != 0 {
			inner = p.VLANs[i+1].TPID
		}
		eth.EthernetType = layers.EthernetType(p.VLANs[0].TPID)
		stack = append(stack, &layers.Dot1Q{VLANIdentifier: tag.ID, Priority: tag.Priority, Type: layers.EthernetType(inner)})
	}
	var network gopacket.NetworkLayer
	switch {
	case p.isIPv4():
		ip := &layers.IPv4{Version: 4, IHL: 5, TTL: p.TTL, TOS: p.TOS, Protocol: layers.IPProtocol(p.Proto), SrcIP: p.Src.AsSlice(), DstIP: p.Dst.AsSlice()}
		stack, network = append(stack, ip), ip
	case p.isIPv6():
		ip := &layers.IPv6{Version: 6, HopLimit: p.TTL, TrafficClass: p.TOS, FlowLabel: p.FlowLabel, NextHeader: layers.IPProtocol(p.Proto), SrcIP: p.Src.AsSlice(), DstIP: p.Dst.AsSlice()}
		stack, network = append(stack, ip), ip
	default:
		return serialize(t, append(stack, gopacket.Payload(make([]byte, 46)))...)
	}
	return serialize(t, append(stack, transport(t, p, network)...)...)
}

func transport(t testing.TB, p Packet, network gopacket.NetworkLayer) []gopacket.SerializableLayer {
	switch p.Proto {
	case ProtoTCP:
		f := p.TCPFlags
		tcp := &layers.TCP{SrcPort: layers.TCPPort(p.SrcPort), DstPort: layers.TCPPort(p.DstPort), Seq: p.Seq, Ack: p.Ack, Window: p.Window,
			FIN: f&FIN != 0, SYN: f&SYN != 0, RST: f&RST != 0, PSH: f&PSH != 0, ACK: f&ACK != 0, URG: f&URG != 0}
		check(t, tcp.SetNetworkLayerForChecksum(network))
		return []gopacket.SerializableLayer{tcp, gopacket.Payload(make([]byte, p.Payload))}
	case ProtoUDP:
		udp := &layers.UDP{SrcPort: layers.UDPPort(p.SrcPort), DstPort: layers.UDPPort(p.DstPort)}
		check(t, udp.SetNetworkLayerForChecksum(network))
		return []gopacket.SerializableLayer{udp, gopacket.Payload(make([]byte, p.Payload))}
	case ProtoICMP:
		icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(p.ICMPType, p.ICMPCode), Id: p.ICMPID}
		return []gopacket.SerializableLayer{icmp, gopacket.Payload(quoted(t, p))}
	case ProtoICMPv6:
		icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(p.ICMPType, p.ICMPCode)}
		check(t, icmp.SetNetworkLayerForChecksum(network))
		if p.Quoted != (Tuple{}) {
			return []gopacket.SerializableLayer{icmp, gopacket.Payload(append(make([]byte, 4), quoted(t, p)...))}
		}
		return []gopacket.SerializableLayer{icmp, &layers.ICMPv6Echo{Identifier: p.ICMPID}, gopacket.Payload(make([]byte, p.Payload))}
	}
	return []gopacket.SerializableLayer{gopacket.Payload("data")}
}

// quoted is the packet that an ICMP error is about, headers only.
func quoted(t testing.TB, p Packet) []byte {
	if p.Quoted == (Tuple{}) {
		return make([]byte, p.Payload)
	}
	inner := ipPacket(p.Quoted.Src, p.Quoted.Dst, p.Quoted.Proto)
	inner.SrcPort, inner.DstPort, inner.TCPFlags = p.Quoted.SrcPort, p.Quoted.DstPort, ACK
	const ethernet = 14
	return frame(t, inner)[ethernet:]
}

func serialize(t testing.TB, stack ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	check(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, stack...))
	return buf.Bytes()
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
