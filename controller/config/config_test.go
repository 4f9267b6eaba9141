package config_test

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/platelet-sdn/platelet/controller/config"
	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

func TestParse(t *testing.T) {
	f, err := config.Parse("c.yaml", []byte(`
mode: autonomous
protected: [10.77.0.1, "fd77::/64"]
telemetry: {sampling: 64, tap: {udp: 0.5}}
response:
  ttl: 20s
  actions: {port-scan: alert}
  quarantine: {remediation: [10.77.0.1]}
`))
	if err != nil {
		t.Fatal(err)
	}
	if f.Mode != response.ModeAutonomous || f.Telemetry.Sampling != 64 || f.Response.TTL != 20*time.Second {
		t.Errorf("got %+v", f)
	}
	if f.Telemetry.Polling != config.Default().Telemetry.Polling {
		t.Error("a setting that the file leaves out lost its default")
	}
	if got := f.TapProbabilities()[flow.SignalUDP]; got != 32767 {
		t.Errorf("tap of UDP: %d of 65535, want half", got)
	}
	r := f.ResponseConfig()
	if r.Actions[detector.KindPortScan] != response.ActionAlert || r.Actions[detector.KindSYNFlood] != response.ActionRateLimit {
		t.Errorf("actions %v", r.Actions)
	}
	for _, a := range []string{"10.77.0.1", "fd77::5"} {
		if _, ok := r.Protected.Covers(mustAddr(a)); !ok {
			t.Errorf("%s is not protected", a)
		}
	}
}

func TestFaultsHaveAPlace(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"mode: automatic\n", "c.yaml:1:7: "},
		{"response:\n  exempt: [{days: [someday]}]\n", "c.yaml:2:12: "},
		{"openc2:\n  listen: 10.0.0.2:8443\n  tokens: t\n", "c.yaml:2:3: "},
		{"openc2: {listen: \"127.0.0.1:8443\"}\n", "c.yaml:1:9: "},
		{"openc2: {tokens: t}\n", "c.yaml:1:9: "},
		{"response:\n  exempt: [{hours: 22-04}]\n", "c.yaml:2:12: "},
		{"response:\n  exempt: [{zone: Nowhere/At_All}]\n", "c.yaml:2:12: "},
		{"response:\n  exempt: [{kinds: [noise]}]\n", "c.yaml:2:12: "},
		{"response:\n  exempt: [{hosts: [10.0.0.5], why: ours}]\n", "c.yaml:2:12: "},
		{"response:\n  exempt: [{kinds: [brute-force], services: [ssh]}]\n", "c.yaml:2:"},
		{"response:\n  groups: {few: {max: 1}}\n", "c.yaml:2:17: "},
		{"response:\n  tll: 5s\n", "c.yaml:2:3: "},
		{"response:\n  ttl: soon\n", "c.yaml:2:8: "},
		{"response:\n  actions: {port-scam: alert}\n", "c.yaml:2:24: "},
		{"telemetry:\n  tap:\n    syn: 2\n", "c.yaml:3:10: "},
		{"protected: [10.0.0.0/8, nonsense]\n", "c.yaml:1:25: "},
		{"ovs: {base_table: 250}\n", "c.yaml:1:19: "},
		{"response: {learning: {mode: on}}\n", "c.yaml:1:29: "},
		{"response:\n  learning: {mode: live, alpha: 0}\n", "c.yaml:2:33: "},
		{"response:\n  learning: {explore: 0.5}\n", "c.yaml:2:23: "},
		{"state: {dir: \"\", nats: \"nats://10.0.0.1\"}\nresponse: {learning: {mode: shadow}}\n", "c.yaml:2:29: "},
		{"mode: [\n", "c.yaml:"},
		{"ovs: {db: \"ssl:10.0.0.1\"}\n", "c.yaml:1:11: "},
		{"ovs: {db: \"unix:db.sock\"}\n", "c.yaml:1:11: "},
		{"ovs:\n  openflow:\n    br0: ssl:::1\n", "c.yaml:3:10: "},
		{"ovs:\n  openflow: {br.0: \"tcp:10.0.0.1:0\"}\n", "c.yaml:2:20: "},
		{"bridges: [br1]\novs:\n  openflow: {br0: \"tcp:10.0.0.1\"}\n", "c.yaml:3:19: "},
		{"ovs:\n  openflow: {br0: \"pssl:\"}\n", "c.yaml:2:3: "}, // no TLS at all: where it would stand
		{"ovs:\n  tls: {ca: /a, certificate: /b}\n", "c.yaml:2:8: "},
		{"ovs:\n  tls: {ca: /a, certificate: /b, key: /c, names: {10.0.0.1: \"\"}}\n", "c.yaml:2:61: "},
		{"bridges: [br0]\novs: {db: \"tcp:127.0.0.1:6640\"}\n", "c.yaml:2:6: "},
		{"ovs: {db: \"tcp:10.0.0.1:6640\"}\ntelemetry:\n  sflow: 10.0.0.2:6343\n  ipfix: 127.0.0.1:4739\n", "c.yaml:4:10: "},
	} {
		_, err := config.Parse("c.yaml", []byte(c.in))
		var faults strictyaml.Errors
		if !errors.As(err, &faults) || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%q: got %v, want a fault at %s", c.in, err, c.want)
		}
	}
}

func TestDetectionOfSegments(t *testing.T) {
	f, err := config.Parse("c.yaml", []byte(`
detection:
  inside: [192.0.2.0/24]
  admin_ports: [8291]
  segments:
    plant: {addresses: [10.84.1.0/24], from: [10.84.0.21]}
    lab: {addresses: [10.85.0.0/16]}
`))
	if err != nil {
		t.Fatal(err)
	}
	c := f.DetectorConfig()
	if len(c.Policy.Segments) != 2 || c.Policy.Segments[0].Name != "lab" || c.Policy.Segments[1].From[0].Addr() != mustAddr("10.84.0.21") {
		t.Errorf("segments %+v", c.Policy.Segments)
	}
	if !c.Inside(mustAddr("192.0.2.9")) || c.Inside(mustAddr("10.0.0.1")) || len(c.Lateral.Ports) != 1 {
		t.Error("the inside or the ports of administration are not what the file says")
	}
	if _, err := config.Parse("c.yaml", []byte("detection: {segments: {plant: {from: [10.0.0.1]}}}\n")); err == nil {
		t.Error("a segment without addresses was accepted")
	}
}

func TestRemoteSwitches(t *testing.T) {
	f, err := config.Parse("c.yaml", []byte(`
bridges: [br0, br1]
ovs:
  db: "ssl:10.0.0.1:6640"
  openflow: {br0: "ssl:10.0.0.1", br1: "pssl:6653:10.0.0.2"}
  tls: {ca: /pki/switchca.pem, certificate: /pki/us.pem, key: /pki/us.key, names: {10.0.0.1: hv1}}
telemetry: {sflow: "10.0.0.2:6343", ipfix: "10.0.0.2:4739"}
`))
	if err != nil {
		t.Fatal(err)
	}
	if got := f.OVS.TLS.Files(); got.CA != "/pki/switchca.pem" || got.Names["10.0.0.1"] != "hv1" || f.OVS.HasSockets() {
		t.Errorf("got %+v", got)
	}
}

func TestDefaultIsValid(t *testing.T) {
	if _, err := config.Parse("empty", nil); err != nil {
		t.Fatal(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("mode: advise\n"))
	f.Add([]byte("response: {ttl: 5s, actions: {port-scan: quarantine}}\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := config.Parse("fuzz", raw)
		if err != nil {
			return
		}
		if err := c.ResponseConfig().Validate(); err != nil {
			t.Fatalf("accepted, but the response refuses it: %v", err)
		}
		d := c.DetectorConfig()
		if err := d.Validate(); err != nil {
			t.Fatalf("accepted, but the detectors refuse it: %v", err)
		}
	})
}

// The reference is made from the struct and its comments:
//
//	UPDATE=1 go test ./controller/config -run TestReference
func TestReference(t *testing.T) {
	const path = "REFERENCE.md"
	var b strings.Builder
	b.WriteString("# Configuration reference\n\nMade from the code by a test; `platelet check FILE` checks a file against it. Every key may be left out.\n\n| key | default | meaning |\n|---|---|---|\n")
	docs := comments(t)
	def := config.Default()
	rows(t, &b, docs, reflect.ValueOf(def), "")
	b.WriteString("\nKinds of findings: [detector/REFERENCE.md](../../detector/REFERENCE.md).\n")
	b.WriteString(exemptions + reachingSwitches)
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil || string(have) != b.String() {
		t.Errorf("%s is not what the code says (%v); run the command above this test", path, err)
	}
}

// exemptions shows an example, which TestExemptExample checks.
const exemptions = "\n## Leaving somebody alone\n\n" + "```yaml\n" + exemptExample + "```\n" + `
Without kinds it is from all of them, which must end at some time or be a window: a host that is exempt from everything for ever could be taken over, and
nothing would be done. Findings about who is exempt are told as ever, and nothing is done about them. An operator's own order is above an exemption; ` + "`platelet exempt`" + ` gives
one for a time. Days are those on which a window begins.

## A honeypot

` + "`actions: {port-scan: reroute}`" + ` with ` + "`response.honeypot`" + ` hands what the host sends to the honeypot, addressed as it was: the packets' Ethernet destination
changes and nothing else. So the honeypot has to be on the same switch, to take packets for any address (Linux: ` + "`ip route add local 10.0.0.0/24 dev lo`" + `), and not
to claim those addresses (` + "`sysctl net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2`" + `). What it says in their names is left out of detection.
Where it is not known yet, the host is kept from what it abuses instead, and so it is when the honeypot's port goes down.

## A scrubber

` + "`actions: {syn-flood: scrub}`" + ` with ` + "`response.scrubbers`" + ` hands what enters the flood's port towards the victim to a scrubber: the packets' Ethernet destination
changes and nothing else. The scrubber is a host on the same switch, at another port, that drops what it takes for the attack and forwards the rest (Linux:
` + "`sysctl net.ipv4.ip_forward=1`" + `, and rules of your choice), with its own Ethernet address, as a router does; it should send no redirects
(` + "`sysctl net.ipv4.conf.all.send_redirects=0`" + `). What it sends on is never handed to it again, and left out of detection. Where there is none, when its port
goes down, or when known-good connections fail while it scrubs, the flood is limited instead.

## Copies

` + "`actions: {anomaly: mirror}`" + ` with ` + "`response.mirror.ports: {br0: analysis0}`" + ` sends copies of what a suspect sends out of the interface ` + "`analysis0`" + ` of the same bridge; its packets
go on as they were, and what other rules drop is not copied. A meter of the switch bounds the copies of each suspect, not the packets. Nothing is held up, so
that one vote of a detector is enough, and mirrors use up no budget of containment. When the port goes down, the mirror is taken back.
`

const exemptExample = `response:
  exempt:
  - {hosts: [10.0.0.5], kinds: [port-scan, host-sweep], until: 2027-06-30T00:00:00Z, why: licensed scanner}
  - {hosts: [10.0.0.6], kinds: [brute-force], services: [tcp/22], why: tries passwords of ours}
  - {hosts: [10.0.8.0/24], days: [sat], hours: "22:00-04:00", zone: Europe/Berlin, why: maintenance of the racks}
  shared: [10.0.0.254]            # everybody's address behind the translation
  groups:
    cameras: {addresses: [10.1.0.0/24], max: 2}
`

func TestExemptExample(t *testing.T) {
	f, err := config.Parse("c.yaml", []byte(exemptExample))
	if err != nil {
		t.Fatal(err)
	}
	r := f.ResponseConfig()
	if len(r.Exempt) != 3 || r.Exempt[1].Services[0].Port != 22 || r.Exempt[2].Zone.String() != "Europe/Berlin" || r.Exempt[2].Begin != 22*60 || len(r.Shared) != 1 || r.Groups[0].Max != 2 {
		t.Errorf("read as %+v", r)
	}
}

// reachingSwitches is what a line for each key cannot say. What it says of
// Open vSwitch has tests in controller/openflow.
const reachingSwitches = `
## Reaching switches

Without ` + "`ovs.openflow`" + `, each bridge is reached at its management socket, beside the socket of a local database. A target replaces that:

| target | set on the switch | effect on the bridge |
|---|---|---|
| ` + "`ssl:HOST[:PORT]`, `tcp:HOST[:PORT]`" + ` | ` + "`ovs-vsctl set-controller BRIDGE pssl:PORT`, `ptcp:PORT`" + `: the bridge listens | none |
| ` + "`pssl:[PORT][:HOST]`, `ptcp:[PORT][:HOST]`" + ` | ` + "`ovs-vsctl set-controller BRIDGE ssl:HOST:PORT`, `tcp:HOST:PORT`" + `: the bridge dials us | **flushes all its flows, groups and meters, everybody's**, when this is its first active controller, and again when the last one is removed |

The port defaults to 6653; IPv6 addresses stand in brackets. A bridge that dials us also needs ` + "`ovs-vsctl set-fail-mode BRIDGE secure`" + ` (else it flushes its
flows when we are away for three probe intervals) and ` + "`other-config:disable-in-band=true`" + ` (else hidden flows pass by every rule); its owner must program it again
after the flush. It is told from others by its datapath ID, which without TLS anybody can claim. Prefer bridges that listen.

With ` + "`ssl:` and `pssl:`" + ` both sides show certificates, TLS 1.2 at least. The switch's must lead to ` + "`ovs.tls.ca`" + `, be in force, and, where it says what it is good for, be
good for its side. Hosts are not compared, because ovs-pki asks for no host: any switch of the CA passes for another, unless ` + "`ovs.tls.names`" + ` ties
an address to a name. The files are read at each connection; a standing connection is not looked at again. The same keys serve an ` + "`ssl:`" + ` database.

` + "```sh" + `
ovs-pki init && ovs-pki -u req+sign hv1 switch && ovs-pki -u req+sign platelet controller
# on the switch: its key and certificate, and the CA of the controllers
ovs-vsctl set-ssl hv1-privkey.pem hv1-cert.pem controllerca/cacert.pem
ovs-vsctl set-manager pssl:6640 -- set-controller br0 pssl:6653
` + "```" + `

` + "```yaml" + `
ovs:
  db: "ssl:10.0.0.1:6640"
  openflow: {br0: "ssl:10.0.0.1:6653"}
  tls: {ca: switchca/cacert.pem, certificate: platelet-cert.pem, key: platelet-privkey.pem, names: {10.0.0.1: hv1}}
telemetry: {sflow: "10.0.0.2:6343", ipfix: "10.0.0.2:4739"} # where the switch can send to
` + "```" + `
`

// The example in the reference is one that works.
func TestReferenceExample(t *testing.T) {
	_, rest, _ := strings.Cut(reachingSwitches, "```yaml\n")
	example, _, ok := strings.Cut(rest, "```")
	f, err := config.Parse("reference", []byte(example))
	if err != nil || !ok || f.OVS.OpenFlow["br0"] == "" {
		t.Errorf("%v: %s", err, example)
	}
}

func rows(t *testing.T, b *strings.Builder, docs map[string]string, v reflect.Value, prefix string) {
	t.Helper()
	for i := range v.NumField() {
		f := v.Type().Field(i)
		key := prefix + f.Tag.Get("yaml")
		if f.Tag.Get("yaml") == "" {
			t.Errorf("%s has no key", f.Name)
		}
		if f.Type.Kind() == reflect.Struct && strings.HasSuffix(f.Type.PkgPath(), "/config") {
			rows(t, b, docs, v.Field(i), key+".")
			continue
		}
		doc := docs[v.Type().Name()+"."+f.Name]
		if doc == "" {
			t.Errorf("%s has no comment", key)
		}
		raw, err := yaml.Marshal(inline(v.Field(i).Interface()))
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString("| `" + key + "` | `" + strings.TrimSpace(string(raw)) + "` | " + doc + " |\n")
	}
}

// inline is a value as one line of YAML.
func inline(v any) any {
	n := &yaml.Node{}
	if d, ok := v.(time.Duration); ok {
		v = d.String()
	}
	if err := n.Encode(v); err != nil {
		return v
	}
	n.Style |= yaml.FlowStyle
	return n
}

// comments reads the comment above each field.
func comments(t *testing.T) map[string]string {
	t.Helper()
	docs := map[string]string{}
	for _, name := range []string{"config.go", "policies.go", "response.go", "remote.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		commentsOf(file, docs)
	}
	return docs
}

func commentsOf(file *ast.File, docs map[string]string) {
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		st, ok := spec.Type.(*ast.StructType)
		if !ok {
			return true
		}
		for _, f := range st.Fields.List {
			for _, name := range f.Names {
				docs[spec.Name.Name+"."+name.Name] = strings.Join(strings.Fields(f.Doc.Text()), " ")
			}
		}
		return true
	})
}

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }
