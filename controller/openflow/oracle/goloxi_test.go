package oracle

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"strings"

	"github.com/skydive-project/goloxi"
	"github.com/skydive-project/goloxi/of14"

	"github.com/platelet-sdn/platelet/controller/openflow"
)

// flowOf turns goloxi's reading of a flow into our words.
func flowOf(e *of14.FlowStatsEntry) (f openflow.Flow, err error) {
	f = openflow.Flow{
		Table: e.TableId, Priority: e.Priority, Cookie: e.Cookie, IdleTimeout: e.IdleTimeout, HardTimeout: e.HardTimeout,
		Flags: uint16(e.Flags), Importance: e.Importance,
	}
	for _, o := range e.Match.OxmList {
		x, err := oxmOf(o)
		if err != nil {
			return f, err
		}
		f.Match = append(f.Match, x)
	}
	for _, i := range e.Instructions {
		switch i := i.(type) {
		case *of14.InstructionMeter:
			f.Meter = i.MeterId
		case *of14.InstructionApplyActions:
			f.Actions, err = actionsOf(i.Actions)
		case *of14.InstructionWriteActions:
			f.Write, err = actionsOf(i.Actions)
		case *of14.InstructionClearActions:
			f.ClearActions = true
		case *of14.InstructionWriteMetadata:
			f.Metadata, f.MetadataMask = i.Metadata, i.MetadataMask
		case *of14.InstructionGotoTable:
			f.Goto, f.HasGoto = i.TableId, true
		default:
			err = fmt.Errorf("instruction %T", i)
		}
		if err != nil {
			return f, err
		}
	}
	return f, nil
}

// oxmOf turns goloxi's reading of a match field into ours, by its name.
func oxmOf(o goloxi.IOxm) (openflow.OXM, error) {
	name, masked := strings.CutSuffix(o.GetOXMName(), "_masked")
	v := reflect.ValueOf(o).Elem()
	value := v.FieldByName("Value")
	var x openflow.OXM
	switch value.Interface().(type) {
	case net.IP:
		mask := net.IP(nil)
		if masked {
			mask, _ = v.FieldByName("ValueMask").Interface().(net.IP)
		}
		return addressOf(name, value.Interface().(net.IP), mask)
	case net.HardwareAddr:
		x = macOf(name, [6]byte(value.Interface().(net.HardwareAddr)))
	default:
		x = numberOf(name, value.Uint())
	}
	if x.Field() == 0 {
		return x, fmt.Errorf("field %s", o.GetOXMName())
	}
	if masked {
		x = x.WithMask(maskOf(v.FieldByName("ValueMask")))
	}
	return x, nil
}

func maskOf(v reflect.Value) uint64 {
	if mac, ok := v.Interface().(net.HardwareAddr); ok {
		return binary.BigEndian.Uint64(append([]byte{0, 0}, mac...))
	}
	return v.Uint()
}

func macOf(name string, mac [6]byte) openflow.OXM {
	switch name {
	case "eth_src":
		return openflow.EthSrc(mac)
	case "eth_dst":
		return openflow.EthDst(mac)
	case "arp_sha":
		return openflow.ARPSHA(mac)
	case "arp_tha":
		return openflow.ARPTHA(mac)
	}
	return openflow.OXM{}
}

func addressOf(name string, ip, mask net.IP) (openflow.OXM, error) {
	addr, _ := netip.AddrFromSlice(ip)
	bits := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	if addr.Is6() {
		bits = netip.AddrFrom16([16]byte{255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255})
	}
	if mask != nil {
		bits, _ = netip.AddrFromSlice(mask)
	}
	switch name {
	case "ipv4_src", "ipv6_src":
		return openflow.IPSrcMasked(addr, bits), nil
	case "ipv4_dst", "ipv6_dst":
		return openflow.IPDstMasked(addr, bits), nil
	case "ipv6_nd_target":
		return openflow.NDTarget(addr), nil
	}
	return openflow.OXM{}, fmt.Errorf("address %s", name)
}

func numberOf(name string, n uint64) openflow.OXM {
	const all = ^uint64(0)
	var reg int
	if _, err := fmt.Sscanf(name, "reg%d", &reg); err == nil {
		return openflow.Reg(reg, uint32(n), ^uint32(0))
	}
	switch name {
	case "in_port":
		return openflow.InPort(uint32(n))
	case "metadata":
		return openflow.Metadata(n, all)
	case "tunnel_id":
		return openflow.TunID(n, all)
	case "eth_type":
		return openflow.EthType(uint16(n))
	case "vlan_vid":
		if n == 0 {
			return openflow.Untagged()
		}
		return openflow.VLAN(uint16(n))
	case "vlan_pcp":
		return openflow.VLANPCP(uint8(n))
	case "conj_id":
		return openflow.ConjID(uint32(n))
	case "conn_tracking_state":
		return openflow.CTState(uint32(n), ^uint32(0))
	case "conn_tracking_zone":
		return openflow.CTZone(uint16(n))
	case "conn_tracking_mark":
		return openflow.CTMark(uint32(n), ^uint32(0))
	case "arp_op":
		return openflow.ARPOp(uint16(n))
	case "arp_spa":
		return openflow.ARPSPA(ipv4(n))
	case "arp_tpa":
		return openflow.ARPTPA(ipv4(n))
	}
	return packetNumberOf(name, n)
}

func packetNumberOf(name string, n uint64) openflow.OXM {
	switch name {
	case "ip_dscp":
		return openflow.IPDSCP(uint8(n))
	case "ip_ecn":
		return openflow.IPECN(uint8(n))
	case "ip_proto":
		return openflow.IPProto(uint8(n))
	case "tcp_src":
		return openflow.TCPSrc(uint16(n))
	case "tcp_dst":
		return openflow.TCPDst(uint16(n))
	case "ovs_tcp_flags", "tcp_flags":
		return openflow.TCPFlags(uint16(n), 0xffff)
	case "udp_src":
		return openflow.UDPSrc(uint16(n))
	case "udp_dst":
		return openflow.UDPDst(uint16(n))
	case "sctp_src":
		return openflow.SCTPSrc(uint16(n))
	case "sctp_dst":
		return openflow.SCTPDst(uint16(n))
	case "icmpv4_type":
		return openflow.ICMPType(uint8(n))
	case "icmpv4_code":
		return openflow.ICMPCode(uint8(n))
	case "icmpv6_type":
		return openflow.ICMPv6Type(uint8(n))
	case "icmpv6_code":
		return openflow.ICMPv6Code(uint8(n))
	}
	return openflow.OXM{}
}

func ipv4(n uint64) netip.Prefix {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], uint32(n))
	return netip.PrefixFrom(netip.AddrFrom4(a), 32)
}

func actionsOf(in []goloxi.IAction) (out []openflow.Action, err error) {
	for _, a := range in {
		x, err := actionOf(a)
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, nil
}

func actionOf(a goloxi.IAction) (openflow.Action, error) {
	const inPort, noRecirc = 0xfff8, 0xff
	switch a := a.(type) {
	case *of14.ActionOutput:
		return openflow.Output{Port: uint32(a.Port), MaxLen: a.MaxLen}, nil
	case *of14.ActionGroup:
		return openflow.ToGroup{ID: a.GroupId}, nil
	case *of14.ActionPushVlan:
		return openflow.PushVLAN{EtherType: a.Ethertype}, nil
	case *of14.ActionPopVlan:
		return openflow.PopVLAN{}, nil
	case *of14.ActionDecNwTtl:
		return openflow.DecTTL{}, nil
	case *of14.ActionSetQueue:
		return openflow.SetQueue{ID: a.QueueId}, nil
	case *of14.ActionSetField:
		x, err := oxmOf(a.Field)
		return openflow.SetField{Field: x}, err
	case *of14.ActionResubmit:
		port := a.InPort
		if port == inPort {
			port = 0
		}
		return openflow.Resubmit{InPort: port, Table: a.Table}, nil
	case *of14.ActionNxRegLoad:
		var reg int
		if _, err := fmt.Sscanf(a.SrcField.GetOXMName(), "reg%d", &reg); err != nil {
			return nil, fmt.Errorf("load into %s", a.SrcField.GetOXMName())
		}
		return openflow.Load{Dst: openflow.RegBits(reg, int(a.OfsNbits>>6), int(a.OfsNbits&63)+1), Value: a.Value}, nil
	case *of14.ActionNxConjunction:
		return openflow.Conjunction{ID: a.Id, Clause: a.Clause + 1, Of: a.NClauses}, nil
	case *of14.ActionNxSample:
		return openflow.Sample{Probability: a.Probability, CollectorSet: a.CollectorSetId, Domain: a.ObsDomainId, Point: a.ObsPointId}, nil
	case *of14.ActionNxController:
		return openflow.Controller{MaxLen: a.MaxLen, ID: a.ControllerId, Reason: a.Reason}, nil
	case *of14.ActionNxCt:
		ct := openflow.Conntrack{Commit: a.Flags&1 != 0, Force: a.Flags&2 != 0, Zone: a.Value, Alg: a.Alg}
		if a.RecircTable != noRecirc {
			ct.Table, ct.Recirc = a.RecircTable, true
		}
		var err error
		ct.Exec, err = actionsOf(a.Actions)
		return ct, err
	case *of14.ActionNxCtClear:
		return openflow.CTClear{}, nil
	}
	return nil, fmt.Errorf("action %T", a)
}
