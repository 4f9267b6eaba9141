package detector

// Kind names what a finding is about.
type Kind string

// The kinds of findings. Kinds tells what each means.
const (
	KindPortScan  Kind = "port-scan"
	KindHostSweep Kind = "host-sweep"
	KindARPSweep  Kind = "arp-sweep"
	KindWorm      Kind = "worm"

	KindSYNFlood      Kind = "syn-flood"
	KindUDPFlood      Kind = "udp-flood"
	KindICMPFlood     Kind = "icmp-flood"
	KindACKFlood      Kind = "ack-flood"
	KindAmplification Kind = "amplification"

	KindBruteForce      Kind = "brute-force"
	KindLateralMovement Kind = "lateral-movement"
	KindBeacon          Kind = "beacon"
	KindExfiltration    Kind = "exfiltration"
	KindDNSTunnel       Kind = "dns-tunnel"

	KindARPSpoof  Kind = "arp-spoof"
	KindIPSpoof   Kind = "ip-spoof"
	KindMACFlood  Kind = "mac-flood"
	KindRogueDHCP Kind = "rogue-dhcp"

	KindPolicyViolation Kind = "policy-violation"
	KindDeviceSilent    Kind = "device-silent"
	KindRhythmBreak     Kind = "rhythm-break"
	KindLinkFlap        Kind = "link-flap"
	KindAsymmetricLoss  Kind = "asymmetric-loss"

	KindAnomaly       Kind = "anomaly"
	KindLearnedThreat Kind = "learned-threat"
)

// Family groups detectors that look at the same property of traffic and so err
// together. Only findings of different families corroborate each other.
type Family string

// The families of detectors.
const (
	FamilySequential  Family = "sequential"  // outcomes of first contacts
	FamilyVolume      Family = "volume"      // packets and bytes
	FamilyPeriodicity Family = "periodicity" // when it happens
	FamilyGraph       Family = "graph"       // who talks to whom
	FamilyConsistency Family = "consistency" // who may be where, by topology
	FamilyPayload     Family = "payload"     // what application data looks like
	FamilyRhythm      Family = "rhythm"      // what used to happen and does not
	FamilyPolicy      Family = "policy"      // what segmentation says
	FamilyOutlier     Family = "outlier"     // unsupervised models
	FamilyClassifier  Family = "classifier"  // supervised model
)

// KindInfo says what a kind of finding means.
type KindInfo struct {
	Kind  Kind
	About string // one line
	// Technique is the MITRE ATT&CK (Enterprise) technique that a finding
	// carries unless its detector knows better, ICS the one of the ICS
	// matrix; empty where there is none.
	Technique, ICS string
	// Severity is what a finding starts with.
	Severity Severity
	Family   Family
	// Source is the paper or RFC that the detector follows.
	Source string
}

// Kinds lists the kinds of findings.
func Kinds() []KindInfo {
	return append(attackKinds(), conductKinds()...)
}

// attackKinds are those of packets and links.
func attackKinds() []KindInfo {
	const (
		trw     = "Jung, Paxson, Berger, Balakrishnan: Fast portscan detection using sequential hypothesis testing (IEEE S&P 2004)"
		cusum   = "Page: Continuous inspection schemes (Biometrika 41, 1954)"
		rossow  = "Rossow: Amplification hell (NDSS 2014)"
		binding = "RFC 7039 (SAVI)"
	)
	return []KindInfo{
		{KindPortScan, "many ports of one host (vertical)", "T1046", "T0846", SeverityHigh, FamilySequential, trw},
		{KindHostSweep, "one service of many hosts (horizontal)", "T1046", "T0846", SeverityHigh, FamilySequential, trw},
		{KindARPSweep, "address resolution of absent neighbours", "T1018", "T0846", SeverityMedium, FamilySequential, "RFC 826, RFC 4861"},
		{KindWorm, "hosts that were contacted look for the same service elsewhere", "T1210", "T0866", SeverityHigh, FamilyGraph,
			"Staniford-Chen et al.: GrIDS, a graph based intrusion detection system (NISSC 1996)"},
		{KindSYNFlood, "TCP connection attempts beyond what is normal for a victim", "T1499.001", "T0814", SeverityHigh, FamilyVolume, cusum},
		{KindUDPFlood, "UDP beyond what is normal for a victim", "T1498.001", "T0814", SeverityHigh, FamilyVolume, cusum},
		{KindICMPFlood, "ICMP beyond what is normal for a victim", "T1498.001", "T0814", SeverityHigh, FamilyVolume, cusum},
		{KindACKFlood, "TCP segments of connections that do not exist", "T1499.001", "T0814", SeverityHigh, FamilyVolume, cusum},
		{KindAmplification, "answers that nobody asked for, from reflectors", "T1498.002", "T0814", SeverityHigh, FamilyVolume, rossow},
		{KindARPSpoof, "an address claimed by another station", "T1557.002", "T0830", SeverityHigh, FamilyConsistency, "RFC 826, RFC 5227"},
		{KindIPSpoof, "source addresses that live elsewhere", "T1498", "T0830", SeverityMedium, FamilyConsistency, binding},
		{KindMACFlood, "invented stations fill the switch's address table", "T1557", "T0830", SeverityHigh, FamilyConsistency, "IEEE 802.1Q, clause 8.8"},
		{KindRogueDHCP, "a DHCP server that nobody knew", "T1557.003", "T0830", SeverityHigh, FamilyConsistency, "RFC 2131, RFC 7610"},
	}
}

// conductKinds are those of applications, devices and models.
func conductKinds() []KindInfo {
	return []KindInfo{
		{KindBruteForce, "logins tried one after the other", "T1110.001", "T0806", SeverityMedium, FamilyVolume,
			"Javed, Paxson: Detecting stealthy, distributed SSH brute-forcing (CCS 2013)"},
		{KindLateralMovement, "new administration from host to host", "T1021", "T0867", SeverityMedium, FamilyGraph,
			"Ho et al.: Hopper, modeling and detecting lateral movement (USENIX Security 2021)"},
		{KindBeacon, "calls home at regular intervals", "T1071.001", "T0869", SeverityMedium, FamilyPeriodicity,
			"Hubballi, Goyal: FlowSummary, summarizing network flows for communication periodicity detection (PReMI 2013)"},
		{KindExfiltration, "data leaves for a destination that is new or rare", "T1048", "T0882", SeverityMedium, FamilyVolume,
			"Marchetti et al.: Analysis of high volumes of network traffic for APT detection (Computer Networks 109, 2016)"},
		{KindDNSTunnel, "data in DNS names or answers", "T1071.004", "T0885", SeverityMedium, FamilyPayload,
			"Paxson et al.: Practical comprehensive bounds on surreptitious communication over DNS (USENIX Security 2013)"},
		{KindPolicyViolation, "traffic that segmentation denies or does not expect", "", "T0886", SeverityLow, FamilyPolicy, "NIST SP 800-207"},
		{KindDeviceSilent, "a device that is asked regularly, or asks others, sends nothing any more", "", "T0814", SeverityLow, FamilyRhythm, periodicity},
		{KindRhythmBreak, "a poll rhythm that has changed", "", "T0836", SeverityLow, FamilyRhythm, periodicity},
		{KindLinkFlap, "a port that goes down and up", "", "", SeverityLow, FamilyRhythm, "RFC 2863 (ifOperStatus)"},
		{KindAsymmetricLoss, "requests whose answers get lost on the way", "", "", SeverityLow, FamilyRhythm, "RFC 2680"},
		{KindAnomaly, "two unsupervised models agree that a host is unlike itself", "", "", SeverityMedium, FamilyOutlier,
			"Guha et al.: Robust random cut forest (ICML 2016); Bhatia et al.: MIDAS (AAAI 2020)"},
		{KindLearnedThreat, "a model trained on labels takes a host for an attacker", "", "", SeverityMedium, FamilyClassifier,
			"McMahan et al.: Ad click prediction (KDD 2013)"},
	}
}

const periodicity = "Barbosa, Sadre, Pras: Exploiting traffic periodicity in industrial control networks (IJCIP 13, 2016)"

// Info returns what a kind means; ok is false for an unknown one.
func (k Kind) Info() (info KindInfo, ok bool) {
	for _, i := range Kinds() {
		if i.Kind == k {
			return i, true
		}
	}
	return KindInfo{}, false
}

// Scanning reports whether scanning alone raises findings of a kind: what a scanner
// that is licensed to scan does every day. The models are among them, to whom a scan
// is the plainest of anomalies. What else such a host may be found to do, once
// somebody has taken it over, is not.
func (k Kind) Scanning() bool {
	switch k {
	case KindPortScan, KindHostSweep, KindARPSweep, KindAnomaly, KindLearnedThreat:
		return true
	}
	return false
}

// flood reports whether findings of a kind are about a victim rather than
// about a host that does something.
func (k Kind) flood() bool {
	switch k {
	case KindSYNFlood, KindUDPFlood, KindICMPFlood, KindACKFlood, KindAmplification:
		return true
	}
	return false
}
