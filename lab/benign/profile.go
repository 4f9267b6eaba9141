package benign

import (
	"fmt"
	"strings"

	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

// DefaultProfile is the one of Options that name none: the measuring
// instrument.
const DefaultProfile = "default"

// Profile is a mix of honest traffic.
type Profile struct {
	// Name is what it is called on the command line, About one line for
	// people.
	Name, About string
	// Behaviours are what it is made of, as in Flow.
	Behaviours []string
}

// behaviour is one kind of traffic.
type behaviour struct {
	name string
	// furnish puts servers and clients in place; pace multiplies how often
	// clients do what they do. It is a lackError where the lab has no nodes
	// for it.
	furnish func(t *Traffic, pace float64) error
}

// part is a behaviour of a profile.
type part struct {
	behaviour
	pace float64
}

type profile struct {
	Profile
	parts []part
}

// Profiles lists what Options.Profile may name.
func Profiles() []Profile {
	var out []Profile
	for _, p := range profiles() {
		out = append(out, p.Profile)
	}
	return out
}

// Find finds a profile by name; the empty name is the default's.
func Find(name string) (Profile, error) {
	p, err := find(name)
	return p.Profile, err
}

func find(name string) (profile, error) {
	if name == "" {
		name = DefaultProfile
	}
	var names []string
	for _, p := range profiles() {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	hint := ""
	if near := strictyaml.Nearest(name, names); near != "" {
		hint = fmt.Sprintf(" (did you mean %q?)", near)
	}
	return profile{}, fmt.Errorf("unknown benign profile %q%s: there are %s", name, hint, strings.Join(names, ", "))
}

func profiles() []profile {
	instrument := behaviour{"page", furnishInstrument}
	web := behaviour{"web", furnishWeb}
	dns := behaviour{"dns", furnishDNS}
	ntp := behaviour{"ntp", furnishNTP}
	backup := behaviour{"backup", furnishBackup}
	update := behaviour{"update", furnishUpdate}
	monitor := behaviour{"monitor", furnishMonitor}
	video := behaviour{"video", furnishVideo}
	rpc := behaviour{"rpc", furnishRPC}
	ot := behaviour{"ot", furnishOT}
	telemetry := behaviour{"telemetry", furnishTelemetry}
	scanner := behaviour{scannerName, furnishScanner}
	return []profile{
		mix("quiet", "now and then a name and the time", 0.2, dns, ntp),
		mix(DefaultProfile, "the measuring instrument: pages and numbered probes at a fixed pace", 1, instrument),
		mix("office", "people who read and think, names, time, backups, update bursts, monitoring", 1, web, dns, ntp, backup, update, monitor),
		mix("datacenter", "calls between tiers, fast clients, names, time, backups, monitoring", 2, web, rpc, dns, ntp, backup, monitor),
		mix("ot", "controllers polled on a fixed rhythm, names, time, monitoring", 1, ot, dns, ntp, monitor),
		mix("iot", "cameras that stream, sensors that report, names, time", 1, video, telemetry, dns, ntp),
		mix("scanner", "the measuring instrument, and a licensed vulnerability scanner: containing that one is wrong, too", 1, instrument, scanner),
		mix("all", "everything that the lab has nodes for", 1, instrument, web, dns, ntp, backup, update, monitor, video, rpc, ot, telemetry, scanner),
	}
}

// mix makes a profile of behaviours that all go at a pace.
func mix(name, about string, pace float64, all ...behaviour) profile {
	p := profile{Profile: Profile{Name: name, About: about}}
	for _, b := range all {
		p.parts = append(p.parts, part{b, pace})
		p.Behaviours = append(p.Behaviours, b.name)
		if b.name == pageName {
			p.Behaviours = append(p.Behaviours, probeName)
		}
	}
	return p
}
