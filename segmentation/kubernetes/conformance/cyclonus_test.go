package conformance

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mattfenwick/cyclonus/pkg/connectivity/probe"
	"github.com/mattfenwick/cyclonus/pkg/generator"
	"github.com/mattfenwick/cyclonus/pkg/matcher"
	"github.com/sirupsen/logrus"
	v1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"

	"github.com/platelet-sdn/platelet/segmentation/compile"
	"github.com/platelet-sdn/platelet/segmentation/kubernetes"
	"github.com/platelet-sdn/platelet/segmentation/oracle"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// The ports that cases name, each served by every pod in every protocol under
// the name that cyclonus gives it.
var (
	ports     = []int{79, 80, 81, 82, 7981}
	protocols = []v1.Protocol{v1.ProtocolTCP, v1.ProtocolUDP, v1.ProtocolSCTP}
)

func protoOf(p v1.Protocol) policy.Proto {
	return map[v1.Protocol]policy.Proto{v1.ProtocolTCP: 6, v1.ProtocolUDP: 17, v1.ProtocolSCTP: 132}[p]
}

// state is a cluster that steps of a case change: namespaces x, y and z with
// pods a, b and c to begin with.
type state struct {
	resources *probe.Resources
	policies  []*networkingv1.NetworkPolicy
	pods      int // that there ever were
}

func newState() *state {
	s := &state{resources: &probe.Resources{Namespaces: map[string]map[string]string{}}}
	for _, ns := range []string{"x", "y", "z"} {
		s.resources.Namespaces[ns] = labelled(ns, map[string]string{"ns": ns})
		for _, name := range []string{"a", "b", "c"} {
			pod := probe.NewDefaultPod(ns, name, ports, protocols, false, "none")
			pod.IP = s.addr()
			s.resources.Pods = append(s.resources.Pods, pod)
		}
	}
	return s
}

func (s *state) addr() string {
	s.pods++
	return fmt.Sprintf("192.168.%d.%d", s.pods/3, 10+s.pods)
}

// labelled adds what the cluster adds to a namespace.
func labelled(ns string, labels map[string]string) map[string]string {
	out := map[string]string{"kubernetes.io/metadata.name": ns}
	for k, v := range labels {
		out[k] = v
	}
	return out
}

// do changes the cluster. Reading policies out of a real one is left out: no
// case does.
func (s *state) do(a *generator.Action) (err error) {
	find := func(ns, name string) int {
		return slices.IndexFunc(s.policies, func(p *networkingv1.NetworkPolicy) bool { return p.Namespace == ns && p.Name == name })
	}
	switch {
	case a.CreatePolicy != nil:
		s.policies = append(s.policies, a.CreatePolicy.Policy)
	case a.UpdatePolicy != nil:
		s.policies[find(a.UpdatePolicy.Policy.Namespace, a.UpdatePolicy.Policy.Name)] = a.UpdatePolicy.Policy
	case a.DeletePolicy != nil:
		i := find(a.DeletePolicy.Namespace, a.DeletePolicy.Name)
		s.policies = slices.Delete(s.policies, i, i+1)
	case a.CreateNamespace != nil:
		s.resources, err = s.resources.CreateNamespace(a.CreateNamespace.Namespace, labelled(a.CreateNamespace.Namespace, a.CreateNamespace.Labels))
	case a.SetNamespaceLabels != nil:
		s.resources, err = s.resources.UpdateNamespaceLabels(a.SetNamespaceLabels.Namespace, labelled(a.SetNamespaceLabels.Namespace, a.SetNamespaceLabels.Labels))
	case a.DeleteNamespace != nil:
		s.resources, err = s.resources.DeleteNamespace(a.DeleteNamespace.Namespace)
	case a.CreatePod != nil:
		if s.resources, err = s.resources.CreatePod(a.CreatePod.Namespace, a.CreatePod.Pod, a.CreatePod.Labels); err == nil {
			s.resources.Pods[len(s.resources.Pods)-1].IP = s.addr()
		}
	case a.SetPodLabels != nil:
		s.resources, err = s.resources.SetPodLabels(a.SetPodLabels.Namespace, a.SetPodLabels.Pod, a.SetPodLabels.Labels)
	case a.DeletePod != nil:
		s.resources, err = s.resources.DeletePod(a.DeletePod.Namespace, a.DeletePod.Pod)
	default:
		err = fmt.Errorf("unknown action %+v", a)
	}
	return err
}

// translated are the policies in our language, and the pods as workloads.
func (s *state) translated(t *testing.T) (*policy.Set, policy.Inventory) {
	t.Helper()
	var text bytes.Buffer
	for _, p := range s.policies {
		p = p.DeepCopy()
		p.APIVersion, p.Kind = "networking.k8s.io/v1", "NetworkPolicy"
		raw, err := yaml.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "---\n%s", raw)
	}
	named := map[string]policy.Service{}
	for _, port := range ports {
		for _, p := range protocols {
			named[fmt.Sprintf("serve-%d-%s", port, strings.ToLower(string(p)))] = policy.Service{
				Proto: protoOf(p), Ports: []policy.PortRange{{First: uint16(port), Last: uint16(port)}}}
		}
	}
	source, _, err := kubernetes.Translate(kubernetes.Options{Ports: named}, policy.Source{Name: "case.yaml", Data: text.Bytes()})
	if err != nil {
		t.Fatalf("%v\n%s", err, &text)
	}
	set, err := policy.Read(source)
	if err != nil {
		t.Fatalf("%v\n%s", err, &text)
	}
	inv := policy.Inventory{}
	for _, p := range s.resources.Pods {
		inv.Workloads = append(inv.Workloads, policy.Workload{Name: p.Namespace + "/" + p.Name, Addrs: []netip.Addr{netip.MustParseAddr(p.IP)},
			Labels: kubernetes.Labels(p.Namespace, s.resources.Namespaces[p.Namespace], p.Labels)})
	}
	return set, inv
}

// jobs are connections: those that the step's probe asks for, and all others
// between pods.
func (s *state) jobs(step *generator.TestStep) []*probe.Job {
	b := &probe.JobBuilder{}
	return append(b.GetJobsForProbeConfig(s.resources, step.Probe).Valid, b.GetJobsAllAvailableServers(s.resources, generator.ProbeModePodIP).Valid...)
}

// Each side of every connection is allowed where cyclonus says so: by the
// oracle, and by the compiled form.
func TestCyclonus(t *testing.T) {
	logrus.SetOutput(io.Discard)
	first := newState()
	cases := generator.NewTestCaseGenerator(true, first.resources.Pods[8].IP, []string{"x", "y", "z"}, nil, nil).GenerateAllTestCases()
	if len(cases) != 230 { // of version 0.5.6
		t.Fatalf("%d cases", len(cases))
	}
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	steps, connections, blocked := 0, 0, 0
	for i, c := range cases {
		t.Run(fmt.Sprintf("%d %s", i+1, c.Description), func(t *testing.T) {
			s := newState()
			for n, step := range c.Steps {
				for _, a := range step.Actions {
					if err := s.do(a); err != nil {
						t.Fatalf("step %d: %v", n, err)
					}
				}
				steps++
				set, inv := s.translated(t)
				program, err := compile.New().Compile(set, inv, now)
				if err != nil {
					t.Fatal(err)
				}
				ours, compiled := oracle.New(set, inv, now), compile.NewEvaluator(program)
				theirs := &probe.SimulatedJobRunner{Policies: matcher.BuildNetworkPolicies(true, s.policies)}
				for _, job := range s.jobs(step) {
					want := theirs.RunJob(job)
					got := ours.Verdict(oracle.Connection{Src: netip.MustParseAddr(job.FromIP), Dst: netip.MustParseAddr(job.ToIP),
						Proto: protoOf(job.Protocol), SrcPort: 50000, DstPort: uint16(job.ResolvedPort)})
					egress, ingress := compiled.Verdict(compile.Connection{Src: netip.MustParseAddr(job.FromIP), Dst: netip.MustParseAddr(job.ToIP),
						Proto: protoOf(job.Protocol), DstPort: uint16(job.ResolvedPort)})
					connections++
					if want.Combined != probe.ConnectivityAllowed {
						blocked++
					}
					for _, x := range []struct {
						what string
						want probe.Connectivity
						got  bool
					}{{"all", want.Combined, got.Allowed()}, {"egress", *want.Egress, got.Egress.Action.Consents()}, {"ingress", *want.Ingress, got.Ingress.Action.Consents()},
						{"compiled egress", *want.Egress, egress.Consents()}, {"compiled ingress", *want.Ingress, ingress.Consents()}} {
						if (x.want == probe.ConnectivityAllowed) != x.got {
							raw, _ := set.Marshal()
							t.Fatalf("step %d: %s to %s, %s %d: %s: cyclonus says %s, we say allowed %v: %s\n%s", n, job.FromKey, job.ToKey, job.Protocol, job.ResolvedPort,
								x.what, x.want, x.got, got.Why, raw)
						}
					}
				}
			}
		})
	}
	t.Logf("%d cases, %d steps, %d connections, of which %d are blocked", len(cases), steps, connections, blocked)
}
