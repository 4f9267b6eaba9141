package kubernetes

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"gopkg.in/yaml.v3"
	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/segmentation/oracle"
	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/policy/policytest"
	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

// The reference below is written from the documentation of the Kubernetes
// APIs, and asks the resources themselves, not what was made of them.

type pod struct {
	namespace       string
	labels, nsLabel map[string]string
	addr            netip.Addr // without a namespace: somebody outside
}

type cluster struct {
	pods    []pod
	network []networkPolicy
	admin   []adminPolicy
	ports   map[string]policy.Service
}

func (s *labelSelector) matches(labels map[string]string) bool {
	for k, v := range s.MatchLabels {
		if have, ok := labels[k]; !ok || have != v {
			return false
		}
	}
	for _, e := range s.MatchExpressions {
		v, has := labels[e.Key]
		ok := map[string]bool{"In": has && slices.Contains(e.Values, v), "NotIn": !has || !slices.Contains(e.Values, v), "Exists": has, "DoesNotExist": !has}[e.Operator]
		if !ok {
			return false
		}
	}
	return true
}

// side is the verdict of one side of a connection: whether it may be.
func (c *cluster) side(own, other pod, egress bool, proto string, port int64) bool {
	if own.namespace == "" {
		return true
	}
	if v := c.adminSays(own, other, egress, proto, port, "AdminNetworkPolicy"); v != "" {
		return v == "Allow"
	}
	isolated, allowed := false, false
	for i := range c.network {
		p := &c.network[i]
		types := p.Spec.PolicyTypes
		if types == nil {
			types = []string{"Ingress"}
			if len(p.Spec.Egress) > 0 {
				types = append(types, "Egress")
			}
		}
		if p.Metadata.Namespace != own.namespace || !p.Spec.PodSelector.matches(own.labels) || !slices.Contains(types, map[bool]string{false: "Ingress", true: "Egress"}[egress]) {
			continue
		}
		isolated = true
		for _, r := range p.Spec.Ingress {
			allowed = allowed || !egress && c.npRule(p, r.From, r.Ports, other, proto, port)
		}
		for _, r := range p.Spec.Egress {
			allowed = allowed || egress && c.npRule(p, r.To, r.Ports, other, proto, port)
		}
	}
	if isolated {
		return allowed
	}
	return c.adminSays(own, other, egress, proto, port, "BaselineAdminNetworkPolicy") != "Deny"
}

func (c *cluster) npRule(p *networkPolicy, peers []npPeer, ports []npPort, other pod, proto string, port int64) bool {
	at := func(q npPeer) bool {
		if q.IPBlock != nil {
			in := func(s string) bool { return netip.MustParsePrefix(s).Contains(other.addr) }
			return in(q.IPBlock.CIDR) && !slices.ContainsFunc(q.IPBlock.Except, in)
		}
		if other.namespace == "" {
			return false
		}
		if q.NamespaceSelector == nil && other.namespace != p.Metadata.Namespace || q.NamespaceSelector != nil && !q.NamespaceSelector.matches(other.nsLabel) {
			return false
		}
		return q.PodSelector == nil || q.PodSelector.matches(other.labels)
	}
	fits := func(q npPort) bool {
		of := q.Protocol
		if of == "" {
			of = "TCP"
		}
		switch {
		case of != proto:
			return false
		case q.Port == nil:
			return true
		case q.Port.name != "":
			s := c.ports[q.Port.name]
			return s.Proto == protoOf(proto) && int64(s.Ports[0].First) == port
		case q.EndPort != nil:
			return q.Port.number <= port && port <= *q.EndPort
		}
		return q.Port.number == port
	}
	return (len(peers) == 0 || slices.ContainsFunc(peers, at)) && (len(ports) == 0 || slices.ContainsFunc(ports, fits))
}

// adminSays is Allow, Deny, or "" for a connection that no rule decides.
func (c *cluster) adminSays(own, other pod, egress bool, proto string, port int64, kind string) string {
	var all []*adminPolicy
	for i := range c.admin {
		if c.admin[i].Kind == kind {
			all = append(all, &c.admin[i])
		}
	}
	slices.SortFunc(all, func(a, b *adminPolicy) int {
		if a.Spec.Priority == nil {
			return 0
		}
		return int(*a.Spec.Priority - *b.Spec.Priority)
	})
	peer := func(p adminPeer, who pod) bool {
		switch {
		case p.Namespaces != nil:
			return who.namespace != "" && p.Namespaces.matches(who.nsLabel)
		case p.Pods != nil:
			return who.namespace != "" && p.Pods.NamespaceSelector.matches(who.nsLabel) && p.Pods.PodSelector.matches(who.labels)
		}
		return slices.ContainsFunc(p.Networks, func(s string) bool { return netip.MustParsePrefix(s).Contains(who.addr) })
	}
	fits := func(p adminPort) bool {
		switch {
		case p.PortNumber != nil:
			return p.PortNumber.Protocol == proto && p.PortNumber.Port == port
		case p.PortRange != nil:
			return p.PortRange.Protocol == proto && p.PortRange.Start <= port && port <= p.PortRange.End
		}
		s := c.ports[p.NamedPort]
		return s.Proto == protoOf(proto) && int64(s.Ports[0].First) == port
	}
	for _, p := range all {
		if !peer(p.Spec.Subject, own) {
			continue
		}
		rules := p.Spec.Ingress
		if egress {
			rules = p.Spec.Egress
		}
		for _, r := range rules {
			is := func(q adminPeer) bool { return peer(q, other) }
			if !slices.ContainsFunc(append(r.From, r.To...), is) || r.Ports != nil && !slices.ContainsFunc(*r.Ports, fits) {
				continue
			}
			if r.Action == "Pass" {
				return ""
			}
			return r.Action
		}
	}
	return ""
}

func protoOf(word string) policy.Proto {
	return map[string]policy.Proto{"TCP": 6, "UDP": 17, "SCTP": 132}[word]
}

type object = map[string]any

func drawSelector(t *rapid.T, label string) object {
	s := object{}
	key := rapid.SampledFrom([]string{"app", "team"})
	value := rapid.SampledFrom([]string{"a", "b", "c", ""})
	if rapid.Bool().Draw(t, label) {
		s["matchLabels"] = rapid.MapOfN(key, value, 0, 2).Draw(t, "matchLabels")
	}
	var list []any
	for range rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "expressions") {
		e := object{"key": key.Draw(t, "key"), "operator": rapid.SampledFrom([]string{"In", "NotIn", "Exists", "DoesNotExist"}).Draw(t, "operator")}
		if op := e["operator"]; op == "In" || op == "NotIn" {
			e["values"] = rapid.SliceOfN(value, 1, 2).Draw(t, "values")
		}
		list = append(list, e)
	}
	if list != nil {
		s["matchExpressions"] = list
	}
	return s
}

func drawPorts(t *rapid.T) []any {
	var out []any
	for range rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "ports") {
		p := object{}
		if word := rapid.SampledFrom([]string{"", "TCP", "UDP", "SCTP"}).Draw(t, "protocol"); word != "" {
			p["protocol"] = word
		}
		switch rapid.IntRange(0, 3).Draw(t, "port") {
		case 0:
			p["port"] = 80
		case 1:
			p["port"], p["endPort"] = 80, 90
		case 2:
			p["port"] = rapid.SampledFrom([]string{"http", "dns"}).Draw(t, "name")
		}
		out = append(out, p)
	}
	return out
}

func drawNetwork(t *rapid.T, i int) object {
	rules := func(key string) []any {
		var out []any
		for range rapid.IntRange(0, 2).Draw(t, key) {
			r := object{}
			var peers []any
			for range rapid.IntRange(0, 2).Draw(t, "peers") {
				peer := object{}
				switch kind := rapid.IntRange(0, 3).Draw(t, "peer"); kind {
				case 0:
					peer["ipBlock"] = rapid.SampledFrom([]object{{"cidr": "10.0.0.0/8"}, {"cidr": "10.0.0.9/8", "except": []string{"10.0.1.0/24"}}, {"cidr": "192.0.2.0/24"}}).Draw(t, "block")
				case 1, 2:
					peer["namespaceSelector"] = drawSelector(t, "namespaces")
					if kind == 1 {
						break
					}
					fallthrough
				default:
					peer["podSelector"] = drawSelector(t, "pods")
				}
				peers = append(peers, peer)
			}
			if peers != nil {
				r[key] = peers
			}
			if ports := drawPorts(t); ports != nil {
				r["ports"] = ports
			}
			out = append(out, r)
		}
		return out
	}
	spec := object{"podSelector": drawSelector(t, "subject"), "ingress": rules("from"), "egress": rules("to")}
	if types := rapid.SampledFrom([][]string{nil, {"Ingress"}, {"Egress"}, {"Ingress", "Egress"}}).Draw(t, "types"); types != nil {
		spec["policyTypes"] = types
	}
	return object{"apiVersion": networkVersion, "kind": "NetworkPolicy", "spec": spec,
		"metadata": object{"name": fmt.Sprintf("n%d", i), "namespace": rapid.SampledFrom([]string{"x", "y"}).Draw(t, "namespace")}}
}

func drawAdmin(t *rapid.T, i int) object {
	peer := func(egress bool) object {
		switch rapid.IntRange(0, 2).Draw(t, "peer") {
		case 0:
			return object{"namespaces": drawSelector(t, "namespaces")}
		case 1:
			if egress {
				return object{"networks": []string{"10.0.1.0/24", "192.0.2.0/25"}}
			}
		}
		return object{"pods": object{"namespaceSelector": drawSelector(t, "namespaces"), "podSelector": drawSelector(t, "pods")}}
	}
	actions := []string{"Allow", "Deny", "Pass"}
	kind, spec := "AdminNetworkPolicy", object{"priority": i, "subject": peer(false)}
	if i == 0 {
		kind, actions = "BaselineAdminNetworkPolicy", actions[:2]
		delete(spec, "priority")
	}
	for _, d := range []string{"ingress", "egress"} {
		var rules []any
		for range rapid.IntRange(0, 2).Draw(t, d) {
			r := object{"action": rapid.SampledFrom(actions).Draw(t, "action"), "name": "allow: this & that"}
			r[map[string]string{"ingress": "from", "egress": "to"}[d]] = []object{peer(d == "egress")}
			switch rapid.IntRange(0, 4).Draw(t, "ports") {
			case 0:
				r["ports"] = []object{{"portNumber": object{"protocol": "TCP", "port": 80}}}
			case 1:
				r["ports"] = []object{{"portRange": object{"protocol": "UDP", "start": 50, "end": 90}}, {"namedPort": "http"}}
			}
			rules = append(rules, r)
		}
		spec[d] = rules
	}
	name := fmt.Sprintf("a%d", i)
	if i == 0 {
		name = "default"
	}
	return object{"apiVersion": adminVersion, "kind": kind, "metadata": object{"name": name}, "spec": spec}
}

func somePods(t *rapid.T) []pod {
	out := []pod{{addr: netip.MustParseAddr("192.0.2.1")}, {addr: netip.MustParseAddr("198.51.100.1")}}
	for n, ns := range []string{"x", "y", "z"} {
		nsLabels := map[string]string{}
		if n < 2 {
			nsLabels["app"] = rapid.SampledFrom([]string{"a", "b"}).Draw(t, "label of namespace")
		}
		for i := range 2 {
			p := pod{ns, map[string]string{}, map[string]string{"kubernetes.io/metadata.name": ns}, netip.MustParseAddr(fmt.Sprintf("10.0.%d.%d", n, i+1))}
			for k, v := range nsLabels {
				p.nsLabel[k] = v
			}
			for _, k := range []string{"app", "team"} {
				if v := rapid.SampledFrom([]string{"a", "b", "c", "", "none"}).Draw(t, k); v != "none" {
					p.labels[k] = v
				}
			}
			out = append(out, p)
		}
	}
	return out
}

// What is translated means what it meant: every connection among pods, and
// with the outside, has the verdict that the API's documentation gives it.
func TestTranslationMeansTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := cluster{pods: somePods(t), ports: map[string]policy.Service{
			"http": {Proto: 6, Ports: []policy.PortRange{{First: 80, Last: 80}}}, "dns": {Proto: 17, Ports: []policy.PortRange{{First: 53, Last: 53}}}}}
		var files []policy.Source
		add := func(o object, decode func(*strictyaml.Doc) error) {
			raw, err := yaml.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			src := policy.Source{Name: fmt.Sprintf("f%d.yaml", len(files)), Data: raw}
			files = append(files, src)
			doc, err := strictyaml.Parse(src.Name, raw)
			if err == nil {
				err = decode(doc)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "network policies") {
			add(drawNetwork(t, i), func(d *strictyaml.Doc) error {
				c.network = append(c.network, networkPolicy{})
				return d.Decode(&c.network[len(c.network)-1])
			})
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "admin network policies") {
			add(drawAdmin(t, i), func(d *strictyaml.Doc) error {
				c.admin = append(c.admin, adminPolicy{})
				return d.Decode(&c.admin[len(c.admin)-1])
			})
		}
		src, _, err := Translate(Options{Ports: c.ports}, files...)
		if err != nil {
			t.Fatal(err)
		}
		set, err := policy.Read(src)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, &c, set)
	})
}

func compare(t *rapid.T, c *cluster, set *policy.Set) {
	var inv policy.Inventory
	for i, p := range c.pods {
		if p.namespace != "" {
			inv.Workloads = append(inv.Workloads, policy.Workload{Name: fmt.Sprint(i), Addrs: []netip.Addr{p.addr}, Labels: Labels(p.namespace, p.nsLabel, p.labels)})
		}
	}
	o := oracle.New(set, inv, policytest.Now())
	for _, from := range c.pods {
		for _, to := range c.pods {
			for _, proto := range []string{"TCP", "UDP", "SCTP"} {
				for _, port := range []int64{53, 80, 85, 443} {
					want := c.side(from, to, true, proto, port) && c.side(to, from, false, proto, port)
					v := o.Verdict(oracle.Connection{Src: from.addr, Dst: to.addr, Proto: protoOf(proto), SrcPort: 40000, DstPort: uint16(port)})
					if v.Allowed() != want {
						text, _ := set.Marshal()
						t.Fatalf("%+v to %+v, %s %d: allowed %v (%s), Kubernetes %v\n%s", from, to, proto, port, v.Allowed(), v.Why, want, text)
					}
				}
			}
		}
	}
}
