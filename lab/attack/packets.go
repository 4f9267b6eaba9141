package attack

import (
	"context"
	"slices"

	"github.com/platelet-sdn/platelet/lab/wire"
)

// Capture filters, besides who sends.
const (
	// synOnly matches connection attempts, synOnly6 the same over IPv6
	// without extension headers, which filters on TCP do not look into.
	synOnly  = "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn"
	synOnly6 = "ip6[6] == 6 and ip6[53] & 0x12 == 0x02"
)

// packets are attacks that agents of ours play with frames of their own
// making.
func packets() []Attack {
	alone := slices.Concat(scans(), stealthy(), sweeps(), floods(), onTheLink())
	for i := range alone {
		alone[i].alone = true
	}
	return append(alone, amplifications()...)
}

// scans go over the ports of one host.
func scans() []Attack {
	scan := func(name, traffic, about string, play func(context.Context, *Scene) error) Attack {
		return Attack{Name: name, Finding: "port-scan", Action: "quarantine", Technique: "T1046", traffic: traffic, about: about, play: play, marked: true}
	}
	connect := scan("connect-scan", synOnly, "connects to ports 1-8000 at 1,000 attempts/s", connectScan)
	connect.marked = false
	silent := scan("port-scan-silent", synOnly, "SYN to ports 1-8000 of an address that never answers, 1,000 probes/s", silentScan)
	silent.prepare = silentNeighbour
	distributed := scan("distributed-scan", synOnly, "SYN to ports 1-8000, 1,000 probes/s shared out among ten sources", distributedScan)
	distributed.attackers, distributed.prepare = sources, moreSources
	six := scan("ipv6-scan", synOnly6, "SYN over IPv6 to ports 1-8000, 1,000 probes/s", portScan(scanRate, wire.SYN, theVictim6))
	return []Attack{
		scan("port-scan", synOnly, "SYN to ports 1-8000 at 1,000 probes/s, closed ports answer", portScan(scanRate, wire.SYN, theVictim)),
		silent,
		connect,
		scan("decoy-scan", synOnly, "SYN to ports 1-8000 at 1,000 probes/s, its own address among nine forged ones", decoyScan),
		distributed, six,
	}
}

// stealthy are scans that mean to go unnoticed.
func stealthy() []Attack {
	flags := func(name, about, traffic string, flags wire.Flags) Attack {
		return Attack{Name: name, Finding: "port-scan", Action: "quarantine", Technique: "T1046", traffic: traffic, marked: true,
			about: about + " to ports 1-8000 at 1,000 probes/s", play: portScan(scanRate, flags, theVictim)}
	}
	return []Attack{
		flags("fin-scan", "FIN", "tcp[tcpflags] & 0x3f == 0x01", wire.FIN),
		flags("null-scan", "segments without flags", "tcp[tcpflags] & 0x3f == 0", 0),
		flags("xmas-scan", "FIN, PSH and URG", "tcp[tcpflags] & 0x3f == 0x29", wire.FIN|wire.PSH|wire.URG),
		{
			Name: "udp-scan", Finding: "port-scan", Action: "quarantine", Technique: "T1046", traffic: "udp", marked: true,
			about: "empty datagrams to ports 1-8000 at 1,000 probes/s", play: udpScan,
		},
		{
			Name: "slow-scan", Finding: "port-scan", Action: "quarantine", Technique: "T1046", traffic: synOnly, marked: true,
			about: "SYN to ports 1-8000, one probe in 5 s", play: portScan(0.2, wire.SYN, theVictim),
		},
	}
}

// sweeps go over many hosts.
func sweeps() []Attack {
	return []Attack{
		{
			Name: "host-sweep", Finding: "host-sweep", Action: "quarantine", Technique: "T1018", traffic: synOnly, swept: true, marked: true,
			about: "SYN to port 22 of 200 live addresses at 1,000 probes/s", play: hostSweep, prepare: liveAddresses,
		},
		{
			Name: "arp-sweep", Finding: "arp-sweep", Action: "quarantine", Technique: "T1018", traffic: "arp[6:2] == 1",
			about: "ARP for 200 dead addresses of the own subnet, 1,000 requests/s", play: arpSweep,
		},
		{
			// Neighbour discovery is to IPv6 what ARP is to IPv4, and its sweep
			// the same finding.
			Name: "ipv6-sweep", Finding: "arp-sweep", Action: "quarantine", Technique: "T1018", traffic: "icmp6 and ip6[40] == 135",
			about: "neighbour solicitations for 200 dead addresses of the own subnet, 1,000 requests/s", play: ndSweep,
		},
	}
}

// floods are those at full speed, each from the attacker's own address and
// from forged ones.
func floods() []Attack {
	one := func(name, finding, technique, traffic, about string, f flood) Attack {
		return Attack{Name: name, Finding: finding, Action: "rate-limit", Technique: technique, Flood: true, Spoofed: f.spoof,
			traffic: traffic, about: about + " at 100,000 packets/s", play: f.play}
	}
	const (
		exhaustion, direct = "T1499.001", "T1498.001"
		ack                = "tcp[tcpflags] & 0x3f == 0x10 and tcp dst port 80 and tcp[14:2] == 512"
		udp                = "udp dst port 9999"
		echo               = "icmp[icmptype] == icmp-echo"
	)
	return []Attack{
		one("syn-flood", "syn-flood", exhaustion, synOnly, "SYN to port 80 from forged sources", tcpFlood(wire.SYN, true)),
		one("syn-flood-direct", "syn-flood", exhaustion, synOnly, "SYN to port 80 from its own address", tcpFlood(wire.SYN, false)),
		one("ack-flood", "ack-flood", exhaustion, ack, "ACK to port 80 from its own address", tcpFlood(wire.ACK, false)),
		one("ack-flood-spoofed", "ack-flood", exhaustion, ack, "ACK to port 80 from forged sources", tcpFlood(wire.ACK, true)),
		one("udp-flood", "udp-flood", direct, udp, "empty datagrams to port 9999 from its own address", udpFlood(false)),
		one("udp-flood-spoofed", "udp-flood", direct, udp, "empty datagrams to port 9999 from forged sources", udpFlood(true)),
		one("icmp-flood", "icmp-flood", direct, echo, "echo requests from its own address", icmpFlood(false)),
		one("icmp-flood-spoofed", "icmp-flood", direct, echo, "echo requests from forged sources", icmpFlood(true)),
	}
}

// amplifications let others send.
func amplifications() []Attack {
	one := func(name, server string, amp amplification) Attack {
		return Attack{Name: name, Finding: "amplification", Action: "rate-limit", Technique: "T1498.002", Flood: true, Spoofed: true,
			about: amp.describe(server), play: amp.play, filter: amp.filter}
	}
	return []Attack{
		one("dns-amplification", "open resolvers", dnsAmplification()),
		one("ntp-amplification", "time servers", ntpAmplification()),
	}
}

// onTheLink are attacks on the link itself.
func onTheLink() []Attack {
	return []Attack{
		{
			Name: "arp-spoof", Finding: "arp-spoof", Action: "quarantine", Technique: "T1557.002", filter: spoofedReplies,
			about: "ARP replies every second that put itself between a host and its gateway", play: arpSpoof, prepare: healNeighbours,
			watch: func(r Roles) []string { return present(r.Near.Node) },
		},
		{
			Name: "mac-flood", Finding: "mac-flood", Action: "quarantine", Technique: "T1557", Flood: true, Spoofed: true,
			about:  "SYN from and to random hardware addresses at 10,000 packets/s",
			filter: func(Roles) string { return "ether[6:2] == 0x066d and ether[8] == 0x66" }, play: macFlood().play,
		},
		{
			Name: "rogue-dhcp", Finding: "rogue-dhcp", Action: "quarantine", Technique: "T1557.003", traffic: "udp src port 67 and udp dst port 68",
			about: "answers DHCP clients of the link, naming itself as their gateway, and offers again ten times a second", play: rogueDHCP,
			watch: func(r Roles) []string { return present(r.Near.Node) },
		},
	}
}

// present leaves empty names out.
func present(nodes ...string) []string {
	return slices.DeleteFunc(nodes, func(n string) bool { return n == "" })
}
