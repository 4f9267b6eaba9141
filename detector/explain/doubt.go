package explain

import "github.com/platelet-sdn/platelet/detector"

// doubts says which honest traffic the same numbers could come from: what no
// telemetry of flows can tell apart.
func doubts(k detector.Kind) string {
	return map[detector.Kind]string{
		detector.KindPortScan:        "Whether somebody ordered the scan: an inventory or a licensed scanner looks the same.",
		detector.KindHostSweep:       "Whether somebody ordered the sweep: an inventory or a licensed scanner looks the same.",
		detector.KindARPSweep:        "Whose sweep it is when the station is a gateway that resolves addresses for others.",
		detector.KindWorm:            "What was exploited: software distribution from host to host would spread the same way.",
		detector.KindSYNFlood:        "Whether the clients are real and merely many: a sale or a news item looks the same until they complete connections.",
		detector.KindUDPFlood:        "What the datagrams carry: a new media stream or bulk transfer without answers looks the same.",
		detector.KindICMPFlood:       "Whether somebody measures: a ping flood by an operator looks the same.",
		detector.KindACKFlood:        "Whether the connections exist elsewhere: after a failover or on an asymmetric path their beginnings are not seen.",
		detector.KindAmplification:   "Whether the questions took another path that is not observed.",
		detector.KindBruteForce:      "Whether the logins failed: without payload a script with the right key looks the same.",
		detector.KindLateralMovement: "Who is logged in: an administrator on a new machine looks the same.",
		detector.KindBeacon:          "What is said: an updater or a health check of somebody else's making looks the same.",
		detector.KindExfiltration:    "What leaves: a new backup or cloud store looks the same.",
		detector.KindDNSTunnel:       "What the names mean: some security products look up hashes over DNS.",
		detector.KindARPSpoof:        "Whether the address was moved on purpose: a failover without virtual MAC looks the same.",
		detector.KindIPSpoof:         "Whether the path is asymmetric: a second uplink brings in addresses of others, too.",
		detector.KindMACFlood:        "Whether a bridge with many stations was connected behind the port.",
		detector.KindRogueDHCP:       "Whether the server was put there on purpose.",
		detector.KindPolicyViolation: "Whether the policy is complete.",
		detector.KindDeviceSilent:    "Why it is silent: maintenance looks like failure.",
		detector.KindRhythmBreak:     "Whether somebody changed the poll interval.",
		detector.KindLinkFlap:        "Whether the fault is in the cable or at the other end.",
		detector.KindAsymmetricLoss:  "On which way the loss is.",
		detector.KindAnomaly:         "Whether it is an attack: unusual is not malicious.",
		detector.KindLearnedThreat:   "Whether the labels that the model learned from fit this network.",
	}[k]
}

// honest says how to make sure that an honest host is not found again.
func honest(k detector.Kind) string {
	switch k {
	case detector.KindPortScan, detector.KindHostSweep, detector.KindARPSweep:
		return "The host listed in detection.ignore."
	case detector.KindWorm, detector.KindLateralMovement, detector.KindBruteForce:
		return "Nothing: but nothing is done about it where `platelet exempt` or response.exempt names the host, this kind and the service."
	case detector.KindSYNFlood:
		return "A floor (detection.syn_flood) above what this service gets, or clients that complete their connections."
	case detector.KindUDPFlood, detector.KindAmplification:
		return "A floor (detection.udp_flood) above what this service gets, or answers of the victim."
	case detector.KindICMPFlood:
		return "A floor (detection.icmp_flood) above what this host gets."
	}
	return "A verdict of yours: `platelet feedback ID false` teaches the models that this is honest."
}
