// Package config reads the controller's configuration file into a validated,
// typed form. Every fault is reported with file, line and column.
package config

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/controller/files"
	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/detector/model"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation"
	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

// File is the configuration file. The comment of each field is its line in
// the reference, which a test holds against this file.
type File struct {
	// observe, advise or autonomous
	Mode response.Mode `yaml:"mode"`
	// bridges to watch; empty means every bridge that OVN does not own
	Bridges []string `yaml:"bridges"`
	// addresses and prefixes that are never contained
	Protected []Prefix `yaml:"protected"`
	OVS       OVS      `yaml:"ovs"`
	State     State    `yaml:"state"`
	API       API      `yaml:"api"`
	Metrics   Metrics  `yaml:"metrics"`
	Audit     Audit    `yaml:"audit"`
	// files of playbooks, also as patterns such as playbooks/*.yaml, relative to this file; they are tried in this order, before those that the program brings along
	Playbooks []string `yaml:"playbooks"`
	// read the files of playbooks again when they change; else at SIGHUP and by platelet playbook reload only
	PlaybookWatch bool `yaml:"playbook_watch"`
	// commands that playbooks may run, by the name that they call them by
	PlaybookExec map[string]Command `yaml:"playbook_exec"`
	Segmentation Segmentation       `yaml:"segmentation"`
	Telemetry    Telemetry          `yaml:"telemetry"`
	Detection    Detection          `yaml:"detection"`
	Response     Response           `yaml:"response"`
	OpenC2       OpenC2             `yaml:"openc2"`
}

// OVS says how to reach Open vSwitch.
type OVS struct {
	// OVSDB endpoint: unix:/PATH, tcp:HOST:PORT or ssl:HOST:PORT
	DB string `yaml:"db"`
	// directory of the bridges' management sockets; empty means the directory of the OVSDB socket
	RunDir string `yaml:"run_dir"`
	// first of the twenty-four OpenFlow tables that Platelet owns
	BaseTable uint8 `yaml:"base_table"`
	// first of the 1,024 conntrack zones that Platelet owns; each bridge has one of them
	BaseZone uint16 `yaml:"base_zone"`
	// connections that a bridge's zone may hold, 0 without limit; held on local switches
	ZoneLimit uint32 `yaml:"zone_limit"`
	// OpenFlow targets by bridge, for those that are not reached at their management socket: tcp:HOST[:PORT] or ssl:HOST[:PORT] of a bridge that listens (which disturbs nothing), ptcp:[PORT][:HOST] or pssl:[PORT][:HOST] where the bridge dials us (its first active controller, and removing the last one, flush all its flows)
	OpenFlow map[string]string `yaml:"openflow"`
	TLS      TLS               `yaml:"tls"`
}

// TLS names the files of mutual TLS, for the database and for OpenFlow.
type TLS struct {
	// certificate of the CA that the switches' certificates must lead to, in PEM (switchca/cacert.pem of ovs-pki); the files are read at each connection
	CA string `yaml:"ca"`
	// our certificate, in PEM; the switches verify it
	Certificate string `yaml:"certificate"`
	// its private key, in PEM
	Key string `yaml:"key"`
	// name that the certificate must carry, by the host of the target or the address that dials us; at hosts left out, any certificate of the CA will do
	Names map[string]string `yaml:"names"`
}

// State says where decisions and templates are kept over restarts.
type State struct {
	// directory of the embedded JetStream server
	Dir string `yaml:"dir"`
	// URL of an external NATS cluster with JetStream, instead of the embedded server
	NATS string `yaml:"nats"`
	// who this controller is among those that use the same cluster, the same after a restart: letters, digits, dots, dashes, underscores; empty makes a name of the machine and of the API socket
	Instance string `yaml:"instance"`
}

// Audit says where and how the log of what was done is kept; see package audit.
type Audit struct {
	// directory of the log; empty means audit in the state directory
	Dir string `yaml:"dir"`
	// size at which a file of the log is complete and the next one begins, MiB
	FileSize int `yaml:"file_size"`
	// longest time until a signed checkpoint is over what was written
	Checkpoint time.Duration `yaml:"checkpoint"`
}

// API says where the command line finds the controller.
type API struct {
	// path of the Unix socket, mode 0600
	Socket string `yaml:"socket"`
}

// Metrics says where Prometheus finds the controller.
type Metrics struct {
	// address and port that serve GET /metrics over plain HTTP to whoever asks, as 127.0.0.1:9184; empty serves none
	Listen string `yaml:"listen"`
}

// Telemetry says what is exported by the switches and where it is received.
type Telemetry struct {
	// address that receives sFlow
	SFlow netip.AddrPort `yaml:"sflow"`
	// address that receives IPFIX, the connection tap's included
	IPFIX netip.AddrPort `yaml:"ipfix"`
	// one of so many packets is sampled by sFlow
	Sampling int `yaml:"sampling"`
	// seconds between sFlow counter samples
	Polling int `yaml:"polling"`
	// ID of the Flow_Sample_Collector_Set (the next free one is taken where it is in use)
	CollectorSet uint32 `yaml:"collector_set"`
	// replace an sFlow configuration that is not ours, and put it back at exit
	TakeForeign bool `yaml:"take_foreign"`
	// exporters that are listened to; empty means loopback and this machine's own addresses
	Exporters []Prefix `yaml:"exporters"`
	Tap       Tap      `yaml:"tap"`
}

// Tap gives the share of packets of each kind that the connection tap samples,
// from 0 (none) to 1 (all).
type Tap struct {
	// TCP SYN
	SYN float64 `yaml:"syn"`
	// TCP SYN+ACK
	SYNACK float64 `yaml:"syn_ack"`
	// TCP RST
	RST float64 `yaml:"rst"`
	// TCP FIN
	FIN float64 `yaml:"fin"`
	// TCP segments that no honest stack sends, such as those of FIN, NULL and Xmas scans
	Probe float64 `yaml:"probe"`
	// ICMP and ICMPv6 destination unreachable
	Unreachable float64 `yaml:"unreachable"`
	// UDP datagrams
	UDP float64 `yaml:"udp"`
	// ICMP and ICMPv6 echo
	ICMP float64 `yaml:"icmp"`
	// ARP and IPv6 neighbour discovery
	ARP float64 `yaml:"arp"`
}

// Detection tunes the detectors.
type Detection struct {
	// how long a connection attempt may stay unanswered
	ReplyTimeout time.Duration `yaml:"reply_timeout"`
	// unanswered first contacts at once that decide before the timeout
	MaxUnanswered int `yaml:"max_unanswered"`
	// how long a finding outlives its last evidence
	KeepFiring time.Duration `yaml:"keep_firing"`
	// use the classifier that was trained on labels (findings of kind learned-threat)
	Learned bool `yaml:"learned"`
	// hosts that may scan (a vulnerability scanner of one's own): no finding of kind port-scan, host-sweep, arp-sweep, anomaly or learned-threat names them, all others do; response.exempt leaves alone by kind, service and time
	Ignore []Prefix `yaml:"ignore"`
	// addresses of the guarded network; empty means private and link-local ones
	Inside []Prefix `yaml:"inside"`
	// TCP ports of administration besides 22, 23, 135, 139, 445, 3389, 5900, 5985 and 5986
	AdminPorts []uint16 `yaml:"admin_ports"`
	// by name, parts of the network (addresses) that only some may reach (from) besides those in them; others are policy violations
	Segments map[string]Segment `yaml:"segments"`
	// lowest SYN rate per victim and port that can be a flood, packets/s
	SYNFlood float64 `yaml:"syn_flood"`
	// lowest UDP rate per victim and port that can be a flood, packets/s
	UDPFlood float64 `yaml:"udp_flood"`
	// lowest ICMP rate per victim and port that can be a flood, packets/s
	ICMPFlood float64 `yaml:"icmp_flood"`
}

// Segment is a part of the network and who may reach it.
type Segment struct {
	Addresses []Prefix `yaml:"addresses"`
	From      []Prefix `yaml:"from"`
}

var instanceForm = regexp.MustCompile(`^[A-Za-z0-9._-]{0,64}$`)

// Prefix is a prefix, or a single address, in a configuration file.
type Prefix struct{ netip.Prefix }

// UnmarshalText reads "10.0.0.0/8", "10.0.0.1" or "fd77::1".
func (p *Prefix) UnmarshalText(text []byte) error {
	if a, err := netip.ParseAddr(string(text)); err == nil {
		p.Prefix = netip.PrefixFrom(a, a.BitLen())
		return nil
	}
	x, err := netip.ParsePrefix(string(text))
	if err != nil {
		return fmt.Errorf("%q is neither an address nor a prefix", text)
	}
	p.Prefix = x.Masked()
	return nil
}

// Default is the configuration without a file: attach to the local Open
// vSwitch, observe, and say what would be done.
func Default() File {
	r, d := response.DefaultConfig(), detector.DefaultConfig()
	return File{
		Mode: response.ModeObserve, PlaybookWatch: true,
		OVS:          OVS{DB: "unix:/var/run/openvswitch/db.sock", BaseTable: 200, BaseZone: 61440, ZoneLimit: 200000},
		State:        State{Dir: "/var/lib/platelet"},
		API:          API{Socket: "/run/platelet/platelet.sock"},
		Segmentation: Segmentation{AtExit: AtExitRemove},
		Audit:        Audit{FileSize: 16, Checkpoint: time.Second},
		Telemetry: Telemetry{
			SFlow: netip.MustParseAddrPort("127.0.0.1:6343"), IPFIX: netip.MustParseAddrPort("127.0.0.1:4739"),
			Sampling: 10, Polling: 5, CollectorSet: 20556,
			Tap: Tap{SYN: 1, SYNACK: 1, RST: 1, FIN: 1, Probe: 1, Unreachable: 1, UDP: 0.03, ICMP: 0.03, ARP: 1},
		},
		Detection: Detection{
			ReplyTimeout: d.Scan.ReplyTimeout, MaxUnanswered: d.Scan.MaxUnanswered, KeepFiring: d.KeepFiring,
			Learned:  true,
			SYNFlood: d.SYN.Unknown.Floor, UDPFlood: d.UDP.Floor, ICMPFlood: d.ICMP.Floor,
		},
		Response: Response{
			Actions: r.Actions, TTL: r.TTL, MinHold: r.MinHold, MaxHold: r.MaxHold, RelapseWindow: r.RelapseWindow,
			QuietFor: r.QuietFor, VerifyWithin: r.VerifyWithin, ApprovalWithin: r.ApprovalWithin, Sample: 0.01, AskAbove: r.AskAbove,
			Quarantine: Quarantine{Max: r.MaxQuarantines, MaxPerMinute: r.MaxActions, MaxTraffic: r.MaxTraffic, TrafficWindow: r.TrafficWindow},
			Probation:  Probation{Limited: r.Probation.Limited, Watched: r.Probation.Watched, PktPS: r.Probation.Limit.PacketsPerSecond, Burst: r.Probation.Limit.Burst},
			Mirror:     Mirror{PktPS: r.Mirror.Limit.PacketsPerSecond, Burst: r.Mirror.Limit.Burst, Max: r.Mirror.Max},
			RateLimit:  RateLimit{PktPS: r.Limit.PacketsPerSecond, Burst: r.Limit.Burst, Margin: r.Margin},
			Learning:   Learning{Mode: response.LearningOff, Alpha: 0.1, Explore: 0.02, MinSamples: 30},
		},
	}
}

// maxFile bounds the configuration, in bytes.
const maxFile = 4 << 20

// Load reads and validates a file; what it leaves out has its default.
func Load(path string) (File, error) {
	raw, err := files.Read(path, maxFile)
	if err != nil {
		return File{}, fmt.Errorf("read configuration: %w", err)
	}
	f, err := Parse(path, raw)
	if err != nil {
		return File{}, err
	}
	return *f.Beside(path), nil
}

// Parse is Load for bytes; name stands in the errors.
func Parse(name string, raw []byte) (File, error) {
	doc, err := strictyaml.Parse(name, raw)
	if err != nil {
		return File{}, err
	}
	f := Default()
	if err := doc.Decode(&f); err != nil {
		return File{}, err
	}
	for kind, action := range Default().Response.Actions {
		if f.Response.Actions == nil { // actions: null
			f.Response.Actions = map[detector.Kind]response.Action{}
		}
		if _, named := f.Response.Actions[kind]; !named {
			f.Response.Actions[kind] = action
		}
	}
	var errs strictyaml.Errors
	f.check(func(ok bool, path, format string, args ...any) {
		if !ok {
			errs = append(errs, doc.Errorf(path, format, args...))
		}
	})
	if len(errs) > 0 {
		return File{}, errs
	}
	return f, nil
}

// check calls bad for each value that cannot work, with its path.
func (f *File) check(want func(ok bool, path, format string, args ...any)) {
	want(slices.Contains([]response.Mode{response.ModeObserve, response.ModeAdvise, response.ModeAutonomous}, f.Mode),
		"mode", "%q is not observe, advise or autonomous", f.Mode)
	for i, b := range f.Bridges {
		want(b != "", fmt.Sprintf("bridges[%d]", i), "is empty")
	}
	want(f.OVS.BaseTable >= 1 && f.OVS.BaseTable <= 230, "ovs.base_table", "%d is outside 1 to 230 (twenty-four tables, below 254)", f.OVS.BaseTable)
	want(f.OVS.BaseZone >= 1 && f.OVS.BaseZone <= 64511, "ovs.base_zone", "%d is outside 1 to 64511 (1,024 zones)", f.OVS.BaseZone)
	f.OVS.check(want)
	f.OpenC2.check(want)
	f.checkRemote(want)
	want(f.State.Dir != "" || f.State.NATS != "", "state.dir", "is empty")
	want(instanceForm.MatchString(f.State.Instance), "state.instance", "%q is not a name of at most 64 letters, digits, dots, dashes and underscores", f.State.Instance)
	want(f.State.Dir != "" || f.Response.Learning.Mode == response.LearningOff, "response.learning.mode", "%s needs state.dir to learn from", f.Response.Learning.Mode)
	f.checkPlaybooks(want)
	f.Segmentation.check(want)
	want(f.API.Socket != "" && len(f.API.Socket) < 108, "api.socket", "needs 1 to 107 bytes")
	_, err := netip.ParseAddrPort(f.Metrics.Listen)
	want(f.Metrics.Listen == "" || err == nil, "metrics.listen", "%v", err)
	want(f.Audit.FileSize >= 1 && f.Audit.FileSize <= 4096, "audit.file_size", "%d is outside 1 to 4096 MiB", f.Audit.FileSize)
	want(f.Audit.Checkpoint >= time.Second && f.Audit.Checkpoint <= 24*time.Hour, "audit.checkpoint", "%s is outside 1s to 24h", f.Audit.Checkpoint)
	for name, s := range f.Detection.Segments {
		want(len(s.Addresses) > 0, "detection.segments."+name, "names no addresses")
	}
	t := &f.Telemetry
	want(t.SFlow.IsValid(), "telemetry.sflow", "needs an address and port")
	want(t.IPFIX.IsValid(), "telemetry.ipfix", "needs an address and port")
	want(t.Sampling >= 1 && t.Sampling <= 1<<24, "telemetry.sampling", "%d is outside 1 to %d", t.Sampling, 1<<24)
	want(t.Polling >= 0 && t.Polling <= 3600, "telemetry.polling", "%d is outside 0 to 3600 s", t.Polling)
	for name, v := range map[string]float64{"syn": t.Tap.SYN, "syn_ack": t.Tap.SYNACK, "rst": t.Tap.RST, "fin": t.Tap.FIN, "probe": t.Tap.Probe,
		"unreachable": t.Tap.Unreachable, "udp": t.Tap.UDP, "icmp": t.Tap.ICMP, "arp": t.Tap.ARP} {
		want(v >= 0 && v <= 1, "telemetry.tap."+name, "%v is outside 0 to 1", v)
	}
	f.Response.check(want)
	if err := f.ResponseConfig().Validate(); err != nil {
		want(false, "response", "%v", err)
	}
	d := f.DetectorConfig()
	if err := d.Validate(); err != nil {
		want(false, "detection", "%v", err)
	}
}

// starter is the model that the program brings along, as long as it knows the
// features of today: a model of others is no model.
func starter() *model.Model {
	m, err := model.Starter()
	if err != nil || m.Schema.Fits(detector.ModelSchema()) != nil {
		return nil
	}
	return m
}

// Cares reports whether a bridge is one that the file gives us.
func (f *File) Cares(bridge string) bool {
	return len(f.Bridges) == 0 || slices.Contains(f.Bridges, bridge)
}

// DetectorConfig is the part that the detectors need.
func (f *File) DetectorConfig() detector.Config {
	d, c := &f.Detection, detector.DefaultConfig()
	c.Scan.ReplyTimeout, c.Scan.MaxUnanswered, c.KeepFiring = d.ReplyTimeout, d.MaxUnanswered, d.KeepFiring
	c.MaxKeepFiring = max(c.MaxKeepFiring, c.KeepFiring)
	c.SYN.Unknown.Floor, c.UDP.Floor, c.ICMP.Floor = d.SYNFlood, d.UDPFlood, d.ICMPFlood
	if d.Learned {
		c.Model.Active = starter()
	}
	if len(d.Ignore) > 0 {
		ignore := segmentation.NewProtected(prefixes(d.Ignore))
		c.Ignore = func(a netip.Addr, k detector.Kind) bool { _, ok := ignore.Covers(a); return ok && k.Scanning() }
	}
	if len(d.Inside) > 0 {
		inside := segmentation.NewProtected(prefixes(d.Inside))
		c.Inside = func(a netip.Addr) bool { _, ok := inside.Covers(a); return ok }
	}
	c.Lateral.Ports = d.AdminPorts
	for _, name := range slices.Sorted(maps.Keys(d.Segments)) {
		s := d.Segments[name]
		c.Policy.Segments = append(c.Policy.Segments, detector.Segment{Name: name, Prefixes: prefixes(s.Addresses), From: prefixes(s.From)})
	}
	return c
}

// TapProbabilities gives each signal's sampling probability, of 65535.
func (f *File) TapProbabilities() map[flow.Signal]uint16 {
	t := &f.Telemetry.Tap
	return map[flow.Signal]uint16{
		flow.SignalAttempt: probability(t.SYN), flow.SignalAccept: probability(t.SYNACK), flow.SignalRefuse: probability(t.RST),
		flow.SignalFinish: probability(t.FIN), flow.SignalProbe: probability(t.Probe), flow.SignalUnreachable: probability(t.Unreachable), flow.SignalUDP: probability(t.UDP),
		flow.SignalICMP: probability(t.ICMP), flow.SignalARPRequest: probability(t.ARP), flow.SignalARPReply: probability(t.ARP),
	}
}

// ExporterPrefixes are the senders that the collector listens to.
func (f *File) ExporterPrefixes() []netip.Prefix { return prefixes(f.Telemetry.Exporters) }

func prefixes(in []Prefix) []netip.Prefix {
	out := make([]netip.Prefix, len(in))
	for i, p := range in {
		out[i] = p.Prefix
	}
	return out
}

// probability turns a share into n of 65535; a share above 0 is never 0.
func probability(share float64) uint16 {
	if share <= 0 {
		return 0
	}
	return uint16(max(1, min(float64(flow.FullProbability), share*float64(flow.FullProbability))))
}
