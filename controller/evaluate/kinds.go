package evaluate

import (
	"slices"
	"strings"

	"github.com/platelet-sdn/platelet/detector"
)

// attackClass is a kind of attack as labels call it, with the kinds of findings
// that name it right.
type attackClass struct {
	name  string
	words []string // that a label holds
	kinds []detector.Kind
}

// other is the class of labels that do not say what the attack is.
const other = "other"

// attackClasses are the classes, the more specific first.
func attackClasses() []attackClass {
	scans := []detector.Kind{"port-scan", "host-sweep", "arp-sweep", "worm"}
	floods := []detector.Kind{"syn-flood", "udp-flood", "icmp-flood", "ack-flood", "amplification"}
	return []attackClass{
		{"dns-tunnel", []string{"tunnel", "iodine", "dnscat"}, []detector.Kind{"dns-tunnel", "exfiltration"}},
		{"scan", []string{"scan", "sweep", "recon", "probe"}, scans},
		{"spoofing", []string{"mitm", "spoof", "poison"}, []detector.Kind{"arp-spoof", "ip-spoof"}},
		{"worm", []string{"worm", "mirai", "okiru", "hajime", "gafgyt", "propagation"},
			append(slices.Clone(scans), "brute-force", "lateral-movement", "beacon")},
		{"brute-force", []string{"brute", "patator", "password", "login", "bad-ssh", "hydra"}, []detector.Kind{"brute-force", "lateral-movement"}},
		{"flood", []string{"dos", "ddos", "flood", "amplification", "slowloris", "hulk", "goldeneye"}, floods},
		{"exfiltration", []string{"exfil"}, []detector.Kind{"exfiltration", "dns-tunnel", "beacon"}},
		{"command", []string{"c&c", "cc", "c2", "command", "botnet", "beacon", "heartbeat", "rat"},
			[]detector.Kind{"beacon", "learned-threat", "anomaly"}},
		{"lateral-movement", []string{"lateral", "infiltration", "psexec"}, []detector.Kind{"lateral-movement"}},
		{"fault", []string{"misconf", "fault", "silent"}, []detector.Kind{"device-silent", "rhythm-break", "link-flap", "asymmetric-loss"}},
	}
}

// attackKind is the class that a label's text and detail speak of, or the kind
// of finding that the text is.
func attackKind(text, detail string) string {
	classes := attackClasses()
	kind := detector.Kind(text)
	for _, is := range []func(attackClass) bool{
		func(c attackClass) bool { return c.name == text },
		func(c attackClass) bool { return c.kinds[0] == kind },
		func(c attackClass) bool { return slices.Contains(c.kinds, kind) },
	} {
		if i := slices.IndexFunc(classes, is); i >= 0 {
			return classes[i].name
		}
	}
	t := strings.ToLower(text + " " + detail)
	words := strings.FieldsFunc(t, func(r rune) bool { return strings.ContainsRune(" -_,;:/()=", r) })
	for _, c := range classes {
		for _, w := range c.words {
			// Short ones are parts of too many other words.
			if len(w) <= 3 && slices.Contains(words, w) || len(w) > 3 && strings.Contains(t, w) {
				return c.name
			}
		}
	}
	return other
}

// named reports whether a finding's kind names an attack of a class right.
func named(class string, kind detector.Kind) bool {
	for _, c := range attackClasses() {
		if c.name == class {
			return slices.Contains(c.kinds, kind)
		}
	}
	return false
}

// quick reports whether the class is one to be found within a minute or ten
// flows.
func quick(class string) bool { return class == "scan" || class == "flood" }
