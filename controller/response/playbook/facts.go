package playbook

import (
	"net/netip"
	"strconv"
	"time"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Facts are what templates may name, and what steps know.
type Facts struct {
	// run of the playbook
	Run string `json:"run"`
	// name of the playbook
	Playbook string `json:"playbook"`
	// name of the step
	Step     string        `json:"step"`
	Finding  FindingFacts  `json:"finding"`
	Decision DecisionFacts `json:"decision"`
	Host     HostFacts     `json:"host"`
}

// FindingFacts are of the finding.
type FindingFacts struct {
	// ID of the finding
	ID string `json:"id"`
	// kind, such as port-scan
	Kind detector.Kind `json:"kind"`
	// low, medium, high or critical
	Severity detector.Severity `json:"severity"`
	// MITRE ATT&CK technique, Enterprise matrix
	Technique string `json:"technique"`
	// one sentence that says what carried it
	Why string `json:"why"`
	// 0 to 1
	Score float64 `json:"score"`
	// 0 to 1
	Confidence float64 `json:"confidence"`
	// first of the victims, an address
	Victim string `json:"victim"`
	// how many victims are known, 16 at most
	Victims int `json:"victims"`
	// IP protocol: tcp, udp, icmp, icmp6 or its number
	Protocol string `json:"protocol"`
	// port attacked, 0 where there are many
	Port uint16 `json:"port"`
	// the sources are forged
	Spoofed bool `json:"spoofed"`
	// when the attack was first seen, RFC 3339, UTC
	FirstSeen string `json:"first_seen"`
	// when it was found
	Time string `json:"time"`
}

// DecisionFacts are of the containment; empty where there is none.
type DecisionFacts struct {
	// ID of the decision
	ID string `json:"id"`
	// rung of the ladder
	Action response.Action `json:"action"`
	// what it hits, for people
	Target string `json:"target"`
	// playbook, or who approved or asked
	Who string `json:"who"`
}

// HostFacts are of the attacker; empty where sources are forged.
type HostFacts struct {
	// IP address
	Address string `json:"address"`
	// MAC address
	MAC string `json:"mac"`
	// bridge that the attack enters by
	Switch string `json:"switch"`
	// its port
	Port string `json:"port"`
	// labels of the port; .Host.Tags.env is the value of env
	Tags map[string]string `json:"tags,omitempty"`
}

// FactsOf gathers what is known. A finding or a decision that there is none of
// has its zero value; what the one does not say is taken from the other.
func FactsOf(f detector.Finding, d response.Decision, tags map[string]string) Facts {
	out := Facts{
		Finding: FindingFacts{
			ID: f.ID, Kind: f.Kind, Severity: f.Severity, Technique: f.Technique, Why: response.Why(f), Score: f.Score, Confidence: f.Confidence,
			Victims: len(f.Victims), Protocol: protocol(f.Proto), Port: f.DstPort, Spoofed: f.Spoofed, FirstSeen: stamp(time.Unix(0, f.FirstSeen)), Time: stamp(time.Unix(0, f.Time)),
		},
		Decision: DecisionFacts{ID: d.ID, Action: d.Action, Who: d.Who},
		Host:     HostFacts{Switch: d.Target.Switch, Port: d.Target.Port, Tags: tags},
	}
	if len(f.Victims) > 0 {
		out.Finding.Victim = f.Victims[0].String()
	}
	if !f.Spoofed {
		out.Host.name(f.Host, f.HostMAC)
	}
	if d.ID == "" {
		return out
	}
	out.Decision.Target = d.Target.String()
	out.Host.name(d.Target.Host, d.Target.MAC)
	if f.ID == "" { // over, or of an earlier run of the controller
		out.Finding = FindingFacts{
			ID: d.Finding, Kind: d.Kind, Severity: d.Severity, Technique: d.Technique, Why: d.Why, Score: d.Score, Confidence: d.Confidence,
			Protocol: protocol(d.Target.Proto), Spoofed: !d.Target.Host.IsValid() && d.Target.MAC.IsZero(), FirstSeen: stamp(d.FirstSeen), Time: stamp(d.Detected),
		}
		if d.Target.Victim.IsValid() {
			out.Finding.Victim, out.Finding.Victims = d.Target.Victim.String(), 1
		}
	}
	return out
}

func (h *HostFacts) name(a netip.Addr, mac flow.MAC) {
	if a.IsValid() {
		h.Address = a.String()
	}
	if !mac.IsZero() {
		h.MAC = mac.String()
	}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func protocol(p uint8) string {
	switch p {
	case 0:
		return ""
	case flow.ProtoTCP:
		return "tcp"
	case flow.ProtoUDP:
		return "udp"
	case flow.ProtoICMP:
		return "icmp"
	case flow.ProtoICMPv6:
		return "icmp6"
	}
	return strconv.Itoa(int(p))
}
