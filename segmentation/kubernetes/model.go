package kubernetes

import (
	"fmt"
	"strconv"

	"gopkg.in/yaml.v3"

	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

// The parts of networking.k8s.io/v1 and policy.networking.k8s.io/v1alpha1 that
// say something about connections. What the cluster writes beside them is
// read and left; every other key is a fault.

type metadata struct {
	Name      string `yaml:"name"`
	Namespace string `yaml:"namespace"`

	Labels                     map[string]string `yaml:"labels"`
	Annotations                map[string]string `yaml:"annotations"`
	UID                        string            `yaml:"uid"`
	ResourceVersion            string            `yaml:"resourceVersion"`
	Generation                 int64             `yaml:"generation"`
	CreationTimestamp          any               `yaml:"creationTimestamp"`
	DeletionTimestamp          any               `yaml:"deletionTimestamp"`
	DeletionGracePeriodSeconds any               `yaml:"deletionGracePeriodSeconds"`
	Finalizers                 []string          `yaml:"finalizers"`
	OwnerReferences            any               `yaml:"ownerReferences"`
	ManagedFields              any               `yaml:"managedFields"`
}

type networkPolicy struct {
	APIVersion string   `yaml:"apiVersion"`
	Kind       string   `yaml:"kind"`
	Metadata   metadata `yaml:"metadata"`
	Status     any      `yaml:"status"`
	Spec       struct {
		PodSelector labelSelector `yaml:"podSelector"`
		Ingress     []npIngress   `yaml:"ingress"`
		Egress      []npEgress    `yaml:"egress"`
		PolicyTypes []string      `yaml:"policyTypes"`
	} `yaml:"spec"`
}

type npIngress struct {
	From  []npPeer `yaml:"from"`
	Ports []npPort `yaml:"ports"`
}

type npEgress struct {
	To    []npPeer `yaml:"to"`
	Ports []npPort `yaml:"ports"`
}

type npPeer struct {
	PodSelector       *labelSelector `yaml:"podSelector"`
	NamespaceSelector *labelSelector `yaml:"namespaceSelector"`
	IPBlock           *ipBlock       `yaml:"ipBlock"`
}

type ipBlock struct {
	CIDR   string   `yaml:"cidr"`
	Except []string `yaml:"except"`
}

type npPort struct {
	Protocol string      `yaml:"protocol"`
	Port     *portOrName `yaml:"port"`
	EndPort  *int64      `yaml:"endPort"`
}

// portOrName is a number, or the name of a container's port.
type portOrName struct {
	number int64
	name   string
}

// UnmarshalStrict tells a number from a name by its type, as Kubernetes does.
func (p *portOrName) UnmarshalStrict(n strictyaml.Node) error {
	if n.Kind() != yaml.ScalarNode {
		return n.Errorf("needs a port or the name of one")
	}
	if number, err := strconv.ParseInt(n.Value(), 10, 64); err == nil {
		p.number = number
		return n.Decode(&p.number) // which refuses a number in quotes
	}
	p.name = n.Value()
	return nil
}

type labelSelector struct {
	MatchLabels      map[string]string `yaml:"matchLabels"`
	MatchExpressions []expression      `yaml:"matchExpressions"`
}

type expression struct {
	Key      string   `yaml:"key"`
	Operator string   `yaml:"operator"`
	Values   []string `yaml:"values"`
}

// adminPolicy is an AdminNetworkPolicy or a BaselineAdminNetworkPolicy, which
// has no priority.
type adminPolicy struct {
	APIVersion string   `yaml:"apiVersion"`
	Kind       string   `yaml:"kind"`
	Metadata   metadata `yaml:"metadata"`
	Status     any      `yaml:"status"`
	Spec       struct {
		Priority *int64      `yaml:"priority"`
		Subject  adminPeer   `yaml:"subject"`
		Ingress  []adminRule `yaml:"ingress"`
		Egress   []adminRule `yaml:"egress"`
	} `yaml:"spec"`
}

type adminRule struct {
	Name   string       `yaml:"name"`
	Action string       `yaml:"action"`
	From   []adminPeer  `yaml:"from"`
	To     []adminPeer  `yaml:"to"`
	Ports  *[]adminPort `yaml:"ports"`
}

// adminPeer has one of its keys; networks is for what egress goes to. Nodes
// and domain names, which experimental versions have, are no addresses that
// could be known here.
type adminPeer struct {
	Namespaces *labelSelector `yaml:"namespaces"`
	Pods       *struct {
		NamespaceSelector labelSelector `yaml:"namespaceSelector"`
		PodSelector       labelSelector `yaml:"podSelector"`
	} `yaml:"pods"`
	Networks []string `yaml:"networks"`
}

type adminPort struct {
	PortNumber *struct {
		Protocol string `yaml:"protocol"`
		Port     int64  `yaml:"port"`
	} `yaml:"portNumber"`
	PortRange *struct {
		Protocol string `yaml:"protocol"`
		Start    int64  `yaml:"start"`
		End      int64  `yaml:"end"`
	} `yaml:"portRange"`
	NamedPort string `yaml:"namedPort"`
}

// resource is one of what can be read.
type resource struct {
	network *networkPolicy
	admin   *adminPolicy
	items   []resource
}

// UnmarshalStrict reads a resource by its kind.
func (r *resource) UnmarshalStrict(n strictyaml.Node) error {
	if n.Kind() != yaml.MappingNode {
		return n.Errorf("needs a Kubernetes resource")
	}
	var keys map[string]any
	if err := n.Decode(&keys); err != nil {
		return err
	}
	version, _ := keys["apiVersion"].(string)
	kind, _ := keys["kind"].(string)
	switch version + " " + kind {
	case networkVersion + " NetworkPolicy":
		r.network = &networkPolicy{}
		return n.Decode(r.network)
	case adminVersion + " AdminNetworkPolicy", adminVersion + " BaselineAdminNetworkPolicy":
		r.admin = &adminPolicy{}
		return n.Decode(r.admin)
	case "v1 List", networkVersion + " NetworkPolicyList", adminVersion + " AdminNetworkPolicyList", adminVersion + " BaselineAdminNetworkPolicyList":
		var list struct {
			APIVersion string     `yaml:"apiVersion"`
			Kind       string     `yaml:"kind"`
			Metadata   any        `yaml:"metadata"`
			Items      []resource `yaml:"items"`
		}
		err := n.Decode(&list)
		r.items = list.Items
		return err
	}
	return n.Errorf("%s is not translated; NetworkPolicy of %s, AdminNetworkPolicy and BaselineAdminNetworkPolicy of %s are",
		describe(version, kind), networkVersion, adminVersion)
}

const (
	networkVersion = "networking.k8s.io/v1"
	adminVersion   = "policy.networking.k8s.io/v1alpha1"
)

func describe(version, kind string) string {
	if version == "" || kind == "" {
		return "what has no apiVersion and kind"
	}
	return fmt.Sprintf("%s of %s", kind, version)
}
