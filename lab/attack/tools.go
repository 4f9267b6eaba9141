package attack

// tools are attacks by the programs that attackers use, as cross-checks of
// what our own agents send.
func tools() []Attack {
	scan := []string{"-n", "-Pn", "--disable-arp-ping", "--send-ip", "--max-retries", "0", "--min-rate", "1000", "--max-rate", "1000"}
	nmap := func(kind, ports string) []string {
		return append(append([]string{kind}, scan...), "-p", ports, "TARGET")
	}
	portScan := func(name, kind, traffic, about string) Attack {
		return Attack{Name: name, Finding: "port-scan", Action: "quarantine", Technique: "T1046", traffic: traffic,
			about: about, program: "nmap", args: nmap(kind, "1-8000"), target: victim}
	}
	silently := portScan("nmap-port-scan-silent", "-sS", synOnly, "the same against an address that never answers")
	silently.target, silently.prepare = octets(silent, silent), silentNeighbour
	return append([]Attack{
		portScan("nmap-port-scan", "-sS", synOnly, "nmap -sS at 1,000 probes/s, closed ports answer"),
		silently,
		portScan("nmap-connect-scan", "-sT", synOnly, "nmap -sT at 1,000 attempts/s"),
		portScan("nmap-fin-scan", "-sF", "tcp[tcpflags] & 0x3f == 0x01", "nmap -sF at 1,000 probes/s"),
		portScan("nmap-null-scan", "-sN", "tcp[tcpflags] & 0x3f == 0", "nmap -sN at 1,000 probes/s"),
		portScan("nmap-xmas-scan", "-sX", "tcp[tcpflags] & 0x3f == 0x29", "nmap -sX at 1,000 probes/s"),
		portScan("nmap-udp-scan", "-sU", "udp", "nmap -sU at 1,000 probes/s"),
		{
			Name: "nmap-host-sweep", Finding: "host-sweep", Action: "quarantine", Technique: "T1018", traffic: synOnly, swept: true,
			about:   "nmap -sS for one port over 200 live addresses",
			program: "nmap", args: nmap("-sS", "22"), target: octets(sweepFrom, sweepTo), prepare: liveAddresses,
		},
		{
			Name: "nmap-arp-sweep", Finding: "arp-sweep", Action: "quarantine", Technique: "T1018", traffic: "arp[6:2] == 1",
			about:   "nmap -PR over 200 dead addresses of the own subnet",
			program: "nmap", args: []string{"-sn", "-PR", "-n", "TARGET"}, target: octets(sweepFrom, sweepTo),
		},
	}, toolFloods()...)
}

// toolFloods are floods by hping3.
func toolFloods() []Attack {
	flood := func(name, finding, technique, traffic, about string, args ...string) Attack {
		return Attack{Name: name, Finding: finding, Action: "rate-limit", Technique: technique, Flood: true, traffic: traffic,
			about: about, program: "hping3", args: append(append([]string{"-q", "--flood"}, args...), "TARGET"), target: victim}
	}
	spoofed := flood("hping3-syn-flood", "syn-flood", "T1499.001", synOnly, "hping3 -S --flood --rand-source", "-S", "-p", webPort, "--rand-source")
	spoofed.Spoofed = true
	return []Attack{
		spoofed,
		flood("hping3-syn-flood-direct", "syn-flood", "T1499.001", synOnly, "hping3 -S --flood from its own address", "-S", "-p", webPort),
		flood("hping3-udp-flood", "udp-flood", "T1498.001", "udp dst port 9999", "hping3 --udp --flood", "--udp", "-p", "9999"),
		flood("hping3-icmp-flood", "icmp-flood", "T1498.001", "icmp[icmptype] == icmp-echo", "hping3 --icmp --flood", "--icmp"),
	}
}
